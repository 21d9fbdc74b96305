"""Does an event cost more where there is more of everything? Teams, events that wait, handlers, processes, ingresses.

Cost is CPU, of Handoff's process and of the server; rates are what two cores happen to give. Each point of a curve is
measured once a round, so that what else the machine does falls on all of them alike, and every run is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from statistics import median
from typing import Final

from tests.bench.arena import Run, arena_for, measure
from tests.bench.contenders.handoff import Handoff, partitions_of
from tests.bench.inside import NOTHING, Cost, inside
from tests.bench.load import run_load
from tests.bench.sections import Section
from tests.bench.sections.door import open_door, write_signed
from tests.bench.synthetic import Stream
from tests.bench.usage import usage_of
from tests.bench.workload import Workload

ROUNDS: Final = 3
SLICE: Final = 20_000  # events that are worked on for one point
TEAMS: Final = (10, 1_000, 100_000, 1_000_000)
USUAL_TEAMS: Final = 1_000
WAITING: Final = (1_000, 10_000, 100_000, 1_000_000)
ONCE: Final = 100_000  # where there are more than that, once has to do
HANDLERS: Final = (1, 3, 10)
PROCESSES: Final = (1, 2, 4)
INGRESSES: Final = (1, 2)
LONGER: Final = 3  # times the work for processes: where all begin with nothing, the first bells and waits count less

Measured = tuple[Cost, Cost]  # what sequencing and running cost
Point = Callable[[int], Measured]


def scale(workload: Workload, most: int = WAITING[-1]) -> Section:
    """``most``: the most teams, and the most events that wait. With 1,000,000 it is a minute and 2.5 GB more."""
    events = min(SLICE, workload.events)
    seed = workload.seed
    curves: dict[str, tuple[Sequence[int], Point]] = {
        "teams": (TEAMS, lambda count: _teams(seed, events, count, 1.1)),
        "teams, all alike": (TEAMS, lambda count: _teams(seed, events, count, 0.0)),
        "waiting": (WAITING, lambda count: _waiting(seed, events, count)),
        "handlers": (HANDLERS, lambda count: _handlers(seed, events, count)),
    }
    series: dict[str, list[dict[str, float]]] = {}
    rows: list[tuple[str, float, str]] = []
    for name, found in _rounds(curves, most).items():
        series[name] = [_point(count, measured) for count, measured in sorted(found.items())]
        rows += _rows(name, series[name])
    series["processes"] = list(_processes(Workload.w1(seed, LONGER * events)))
    series["ingresses"] = list(_ingresses(workload))
    for point in series["processes"]:
        rows.append((f"{point['count']:g} worker processes", point["rate"], "events/s"))
        rows.append(("    CPU of worker and server", point["worker"] + point["server"], "us/event"))
    for point in series["ingresses"]:
        rows.append((f"{point['count']:g} ingresses", point["rate"], "deliveries/s"))
        rows.append(("    CPU of ingresses and server", point["ingress"] + point["server"], "us/delivery"))
    said = f"medians of {ROUNDS} rounds, one where over {ONCE:,}; {events:,} events a point; each exact, in order"
    return Section("Scale", rows, said, series)


def _rounds(curves: dict[str, tuple[Sequence[int], Point]], most: int) -> dict[str, dict[int, list[Measured]]]:
    """All points of all curves in turn, round after round."""
    found: dict[str, dict[int, list[Measured]]] = {name: {} for name in curves}
    for number in range(ROUNDS):
        for name, (counts, point) in curves.items():
            for count in counts:
                if count <= most and (number == 0 or count <= ONCE):
                    found[name].setdefault(count, []).append(point(count))
    return found


def _teams(seed: int, events: int, teams: int, exponent: float) -> Measured:
    """Events of a few of so many teams, all of which are known."""
    with inside() as system:
        system.know(teams)
        stream = Stream(seed, events, teams, exponent)
        system.load(stream)
        sequenced, ran = system.sequence(), system.run()
        system.check(stream.counts)
    return sequenced, ran


def _waiting(seed: int, events: int, waiting: int) -> Measured:
    """A part of the work while so many events wait: in the inboxes to be sequenced, in lanes for their handler."""
    with inside() as system:
        system.know(USUAL_TEAMS)
        if waiting > events:
            stream = Stream(seed, waiting + events, USUAL_TEAMS)
            system.load(stream)
            sequenced = system.sequence(events)
            system.sequence()
            ran = system.run(events)
            system.check()
            return sequenced, ran
        stream = Stream(seed, events, USUAL_TEAMS)
        deliveries = iter(stream)
        sequenced = ran = NOTHING
        while batch := list(islice(deliveries, waiting)):
            system.load(batch)
            sequenced += system.sequence()
            ran += system.run()
        system.check(stream.counts)
        return sequenced, ran


def _handlers(seed: int, events: int, handlers: int) -> Measured:
    with inside(handlers) as system:
        system.know(USUAL_TEAMS)
        stream = Stream(seed, events, USUAL_TEAMS)
        system.load(stream)
        sequenced, ran = system.sequence(), system.run()
        system.check(stream.counts)
    return sequenced, ran


def _point(count: int, measured: Sequence[Measured]) -> dict[str, float]:
    """Medians of the rounds, CPU us: of sequencing an event, and of a job (one event of one handler)."""
    sequenced, ran = zip(*measured, strict=True)
    return {
        "count": count,
        "sequencer": median(cost.own_each for cost in sequenced),
        "sequencer_server": median(cost.server_each for cost in sequenced),
        "runner": median(cost.own_each for cost in ran),
        "runner_server": median(cost.server_each for cost in ran),
        "sequencer_commands": sum(sequenced[0].commands.values()) / sequenced[0].events,
        "runner_commands": sum(ran[0].commands.values()) / ran[0].events,
    }


def _rows(name: str, points: Sequence[dict[str, float]]) -> Iterator[tuple[str, float, str]]:
    for point in points:
        where = f"{point['count']:,.0f} {name}"
        yield f"{where}: sequencing", point["sequencer"] + point["sequencer_server"], "us/event"
        yield "    running", point["runner"] + point["runner_server"], "us/job"


def _processes(workload: Workload) -> Iterator[dict[str, float]]:
    """W1 preloaded, to the last event handled, by real Celery workers."""
    runs: dict[int, list[Run]] = {}
    for _ in range(ROUNDS):
        for count in PROCESSES:
            contender = Handoff("scale", "", "tests.bench.pipelined", "append", processes=count)
            run = measure(contender, workload)
            assert run.finished, f"{count} processes did not finish"
            assert run.verdict is not None
            assert str(run.verdict) == "exact, in order", f"{count} processes: {run.verdict}"
            runs.setdefault(count, []).append(run)
    for count, found in runs.items():
        yield {
            "count": count,
            "rate": median(run.rate for run in found),
            "worker": median(run.worker_cpu for run in found),
            "server": median(run.server_cpu for run in found),
        }


def _ingresses(workload: Workload) -> Iterator[dict[str, float]]:
    """The same deliveries, signed, in equal parts to each ingress."""
    found: dict[int, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        for count in INGRESSES:
            found.setdefault(count, []).append(_posted(workload, count))
    for points in found.values():
        yield {name: median(point[name] for point in points) for name in points[0]}


def _posted(workload: Workload, count: int) -> dict[str, float]:
    posts = len(workload.deliveries)
    with ExitStack() as stack:
        arena = stack.enter_context(arena_for(workload))
        doors = [stack.enter_context(open_door(arena.url)) for _ in range(count)]
        files = [arena.folder / f"signed{number}" for number in range(count)]
        for number, file in enumerate(files):
            write_signed(file, (delivery.body for delivery in workload.deliveries[number::count]))
        pids = [door.process.pid for door in doors]
        before, server = usage_of(pids).cpu, usage_of([arena.server_pid]).cpu
        with ThreadPoolExecutor(count) as pool:
            loads = list(pool.map(run_load, [door.address for door in doors], files))
        after, server_after = usage_of(pids).cpu, usage_of([arena.server_pid]).cpu
        stored = sum(arena.client.xlen(keys.inbox) for keys in partitions_of(arena))
        assert stored == posts, f"{posts} deliveries, of which {stored} were stored"
    seconds = max(load.began + load.seconds for load in loads) - min(load.began for load in loads)
    return {
        "count": count,
        "rate": posts / seconds,
        "ingress": (after - before) / posts * 1e6,
        "server": (server_after - server) / posts * 1e6,
    }
