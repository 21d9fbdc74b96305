"""What Handoff's processes keep in memory, after the whole road and after the largest bodies that are let in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.bench.arena import Arena, arena_for, wait_for
from tests.bench.contenders.handoff import count_done, start_worker
from tests.bench.load import run_load
from tests.bench.sections import Section
from tests.bench.sections.door import Door, open_door, write_signed
from tests.bench.usage import Resident, resident, with_children
from tests.bench.workload import Workload
from tests.processes import Process

MEBI: Final = 1024 * 1024
LARGE: Final = 1_000_000  # bytes of a body; HANDOFF_MAX_BODY is 1 MiB
MOST_LARGE: Final = 200


def process_memory(workload: Workload) -> Section:
    """RSS, PSS and USS of each process when the work is done, and the most that it ever had."""
    rows: list[tuple[str, float, str]] = []
    for name, found in after(workload).items():
        shares = (("resident", found.rss), ("its share", found.pss), ("its own", found.uss), ("at most", found.peak))
        rows += [(f"{name}, {what}", size / MEBI, "MiB") for what, size in shares]
    for name, found in after(enlarged(workload)).items():
        rows += [(f"{name}, bodies of {LARGE / 1e6:g} MB: {what}", size / MEBI, "MiB") for what, size in _ends(found)]
    said = "share: pages that n processes have count 1/n; own: those that it has alone, what one more process costs"
    return Section("Memory of processes", rows, said)


def after(workload: Workload) -> dict[str, Resident]:
    """Post the work, let two processes do it, and look at each process: by name."""
    with _running(workload) as (arena, door, worker):
        file = arena.folder / "signed"
        write_signed(file, (delivery.body for delivery in workload.deliveries))
        run_load(door.address, file)
        _, finished = wait_for(lambda: count_done(arena, "append"), workload.events)
        assert finished, f"{count_done(arena, 'append')} of {workload.events} events were handled"
        main, *children = with_children([worker.pid])
        found = {f"worker, process {number}": resident(pid) for number, pid in enumerate(children, 1)}
        return {"worker, main": resident(main), **found, "ingress": resident(door.process.pid)}


def enlarged(workload: Workload) -> Workload:
    """Some of the work, with bodies as large as they may be."""
    kept = [
        delivery._replace(body=delivery.body[:-1] + b',"more":"%b"}' % (b"x" * (LARGE - len(delivery.body) - 10)))
        for delivery in workload.deliveries[:MOST_LARGE]
    ]
    return Workload(workload.seed, len({delivery.event_id for delivery in kept}), tuple(kept))


def _ends(found: Resident) -> Iterator[tuple[str, int]]:
    yield "resident afterwards", found.rss
    yield "at most", found.peak


@contextmanager
def _running(workload: Workload) -> Iterator[tuple[Arena, Door, Process]]:
    with arena_for(workload) as arena, open_door(arena.url) as door:
        worker = start_worker(arena.url, "tests.bench.pipelined", gap_wait="0.1s")
        try:
            arena.wait_for_blocked(worker, "brpop")
            yield arena, door, worker
        finally:
            worker.kill()
