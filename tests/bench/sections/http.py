"""From HTTP all the way to the handlers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.bench.arena import Arena, arena_for, wait_for
from tests.bench.checker import check
from tests.bench.contenders.handoff import count_done, count_late, start_worker
from tests.bench.load import Load, run_load
from tests.bench.sections import Section
from tests.bench.sections.door import open_door, write_signed
from tests.bench.usage import usage_of
from tests.bench.workload import Workload


def whole_road(workload: Workload) -> Section:
    """The same deliveries posted while a worker runs: how fast they are taken, and how fast they are handled."""
    with arena_for(workload) as arena, open_door(arena.url) as door:
        worker = start_worker(arena.url, "tests.bench.pipelined")
        try:
            arena.wait_for_blocked(worker, "brpop")
            file = _signed(arena)
            pids = {"ingress": door.process.pid, "worker": worker.pid, "server": arena.server_pid}
            before = {name: usage_of([pid]).cpu for name, pid in pids.items()}
            loads: list[Load] = []
            posting = threading.Thread(target=lambda: loads.append(run_load(door.address, file)))
            posting.start()
            _, finished = wait_for(lambda: count_done(arena, "append"), workload.events)
            ended = time.perf_counter()
            posting.join()
            cpu = {name: usage_of([pid]).cpu - before[name] for name, pid in pids.items()}
            verdict = check(workload.expected, arena.handled(), marked=count_late(arena))
        finally:
            worker.kill()
    rows = [
        ("deliveries accepted", loads[0].rate, "/s"),
        ("events to handlers done", workload.events / (ended - loads[0].began), "/s"),
        *((f"CPU of the {name}", seconds / workload.events * 1e6, "us/event") for name, seconds in cpu.items()),
        ("not accepted", float(_refused(loads[0])), ""),
        ("wrong", float(verdict.missing + verdict.repeated + verdict.unknown + verdict.disordered), ""),
    ]
    return Section("From HTTP to handlers done", rows, f"{verdict}{'' if finished else ', NOT FINISHED'}")


def _signed(arena: Arena) -> Path:
    file = arena.folder / "signed"
    write_signed(file, (delivery.body for delivery in arena.workload.deliveries))
    return file


def _refused(load: Load) -> int:
    return sum(count for status, count in load.statuses.items() if status != "202")
