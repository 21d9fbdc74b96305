"""From HTTP: the front door alone beside the same server's cheapest answer, then all the way to the handlers."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

from tests.bench.arena import Arena, arena_for, wait_for
from tests.bench.checker import check
from tests.bench.contenders.handoff import count_done, start_worker
from tests.bench.load import CONNECTIONS, Load, get, run_load, write_requests
from tests.bench.sections import Section
from tests.bench.sections.door import Door, open_door, write_signed
from tests.bench.usage import usage_of
from tests.bench.workload import Workload


def front_door(workload: Workload) -> Section:
    """Signed deliveries stored and answered, beside GET /healthz: the same server, loop and client, nothing to do."""
    with arena_for(workload) as arena, open_door(arena.url) as door:
        file, empty = _signed(arena), arena.folder / "empty"
        write_requests(empty, [get("/healthz")] * len(workload.deliveries))
        run_load(door.address, empty)  # to warm it
        looks = [_cpu(door, arena)]
        idle = run_load(door.address, empty)
        looks.append(_cpu(door, arena))
        accepted = run_load(door.address, file)
        looks.append(_cpu(door, arena))
    posts = len(workload.deliveries)
    (idle_cpu, _), (door_cpu, server_cpu) = (
        [(after - before) / posts * 1e6 for before, after in zip(first, then, strict=True)]
        for first, then in pairwise(looks)
    )
    return Section(
        "The front door alone",
        [
            ("signed deliveries accepted", accepted.rate, "/s"),
            ("GET /healthz, same server", idle.rate, "/s"),
            ("ratio of the rates", accepted.rate / idle.rate, "x"),
            ("CPU of the ingress", door_cpu, "us/delivery"),
            ("CPU of the ingress, GET /healthz", idle_cpu, "us/request"),
            ("CPU of the server", server_cpu, "us/delivery"),
            ("not accepted", float(_refused(accepted)), ""),
        ],
        f"{CONNECTIONS} connections from one process, which shares the two cores",
    )


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
            verdict = check(workload.expected, arena.handled())
        finally:
            worker.kill()
    rows = [
        ("deliveries accepted", loads[0].rate, "/s"),
        ("events to handlers done", workload.events / (ended - loads[0].began), "/s"),
        *((f"CPU of the {name}", seconds / workload.events * 1e6, "us/event") for name, seconds in cpu.items()),
        ("not accepted", float(_refused(loads[0])), ""),
    ]
    return Section("From HTTP to handlers done", rows, f"{verdict}{'' if finished else ', NOT FINISHED'}")


def _cpu(door: Door, arena: Arena) -> tuple[float, float]:
    return usage_of([door.process.pid]).cpu, usage_of([arena.server_pid]).cpu


def _signed(arena: Arena) -> Path:
    file = arena.folder / "signed"
    write_signed(file, (delivery.body for delivery in arena.workload.deliveries))
    return file


def _refused(load: Load) -> int:
    return sum(count for status, count in load.statuses.items() if status != "202")
