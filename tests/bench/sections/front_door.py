"""The front door alone, beside the same server doing nothing and beside what others build: requests a second, what each
costs, and how long one waits at seven tenths of the most. Each on a fresh server, in turns over rounds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.arena import Arena, arena_for
from tests.bench.load import CONNECTIONS, Load, get, run_load, write_requests
from tests.bench.sections import Section
from tests.bench.sections.door import write_signed
from tests.bench.sections.doors import HANDOFF, KINDS, Kind
from tests.bench.usage import usage_of
from tests.bench.workload import Workload

ROUNDS: Final = 3
SHARE_OF_MOST: Final = 0.7
PACED_SECONDS: Final = 4.0
WARMING: Final = 2000  # requests


@dataclass(frozen=True)
class Measured:
    """Processor time is microseconds a request; ``wrong`` counts answers that were not right, and those too many or
    too few that left something in the server."""

    load: Load
    own: float
    server: float
    client: float
    rss: int
    wrong: int


def front_door(workload: Workload, rounds: int = ROUNDS) -> Section:
    able = [kind for kind in KINDS if kind.why_not() is None]
    found: dict[str, list[Measured]] = {kind.name: [] for kind in able}
    for _ in range(rounds):
        for kind in able:
            found[kind.name].append(_measure(kind, workload))
    rows: list[tuple[str, float, str]] = []
    for kind in able:
        rows += _rows(kind, found[kind.name])
    most = _rate(found[HANDOFF.name])
    for kind in able:
        if kind is not HANDOFF:
            ratio = most / _rate(found[kind.name])
            rows.append((f"Handoff's requests a second, of {kind.name}", ratio, "x"))
    paced = [_paced(workload, most * SHARE_OF_MOST) for _ in range(rounds)]
    rows += [
        ("at 70 % of Handoff's most", median(load.rate for load in paced), "/s"),
        ("    from when each was due, p50", median(load.p50 for load in paced) * 1000, "ms"),
        ("    p99", median(load.p99 for load in paced) * 1000, "ms"),
        ("    worst round's p99", max(load.p99 for load in paced) * 1000, "ms"),
        ("    not accepted", float(sum(_not(load, "202") for load in paced)), ""),
    ]
    absent = "".join(f"; not run: {kind.name}, {reason}" for kind in KINDS if (reason := kind.why_not()))
    note = (
        f"{f'medians of {rounds} rounds in turn' if rounds > 1 else '1 round'}, {CONNECTIONS} connections from one "
        f"process, which shares the cores with the door and the state server{absent}"
    )
    return Section("The front door alone", rows, note)


def _rows(kind: Kind, measured: list[Measured]) -> list[tuple[str, float, str]]:
    rates = [one.load.rate for one in measured]
    rows = [
        (kind.name, median(rates), "/s"),
        ("    least", min(rates), "/s"),
        ("    most", max(rates), "/s"),
        ("    its CPU", median(one.own for one in measured), "us/request"),
        ("    the state server's", median(one.server for one in measured), "us/request"),
        ("    the client's", median(one.client for one in measured), "us/request"),
        ("    its memory at most", max(one.rss for one in measured) / 1024 / 1024, "MiB"),
        ("    wrong", float(sum(one.wrong for one in measured)), ""),
    ]
    return rows if not kind.empty else [row for row in rows if "state server" not in row[0]]


def _measure(kind: Kind, workload: Workload) -> Measured:
    with arena_for(workload) as arena, kind.open(arena) as door:
        posts = len(workload.deliveries)
        times = max(1, round(kind.share))
        file = _requests(arena, kind, min(posts, max(1, round(posts * kind.share))))
        run_load(door.address, _requests(arena, kind, min(WARMING, posts)))
        before, stored = _cpu(door.process.pid, arena), kind.stored(arena)
        load = run_load(door.address, file, times=times)
        after, stored = _cpu(door.process.pid, arena), kind.stored(arena) - stored
        rss = usage_of([door.process.pid]).rss
    count = sum(load.statuses.values())
    right = load.statuses.get("204" if kind.empty else "202", 0)
    own, server = ((then - first) / count * 1e6 for first, then in zip(before, after, strict=True))
    wrong = count - right + (0 if kind.empty else abs(stored - right))
    return Measured(load, own, server, load.cpu / count * 1e6, rss, wrong)


def _paced(workload: Workload, rate: float) -> Load:
    with arena_for(workload) as arena, HANDOFF.open(arena) as door:
        file = _requests(arena, HANDOFF, len(workload.deliveries))
        run_load(door.address, file)  # to warm it
        times = max(1, round(rate * PACED_SECONDS / len(workload.deliveries)))
        return run_load(door.address, file, times=times, rate=rate)


def _requests(arena: Arena, kind: Kind, count: int) -> Path:
    file = arena.folder / f"requests-{count}"
    if kind.gets:
        write_requests(file, [get("/")] * count)
    else:
        write_signed(file, (delivery.body for delivery in islice(arena.workload.deliveries, count)))
    return file


def _cpu(pid: int, arena: Arena) -> tuple[float, float]:
    return usage_of([pid]).cpu, usage_of([arena.server_pid]).cpu


def _rate(measured: list[Measured]) -> float:
    return median(one.load.rate for one in measured)


def _not(load: Load, status: str) -> int:
    return sum(count for found, count in load.statuses.items() if found != status)
