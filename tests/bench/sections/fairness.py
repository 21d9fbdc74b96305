"""Fairness between teams: a scarce rate that many busy teams share, and a job beside the thousands of another team."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from tests.bench.arena import Arena, arena_for
from tests.bench.contenders.handoff import partitions_of, settings_of, start_worker
from tests.bench.sections import Section
from tests.bench.turns import CALLS, SLOW
from tests.bench.workload import Workload
from tests.processes import until
from tests.store_kit import change
from worker.core.handlers import Rate
from worker.doorbell import Doorbell
from worker.settings import DEFAULT_PARTITIONS
from worker.store.installation import fix_partitions
from worker.store.keys import partition_of
from worker.store.rate import RateStore
from worker.store.scripts import Scripts

RATE_CALLS: Final = 100
RATE_SECONDS: Final = 10.0
TEAMS: Final = 200
WATCHED: Final = 45.0  # seconds
BACKLOG: Final = 50_000
SINGLES: Final = 25  # teams of one job each, one after another


def fairness() -> Section:
    """Calls of a rate by team and by stretch; and how long a team of one job waits beside one of very many."""
    rows = list(_shares())
    for order_by in ("team", "prospect", "none"):
        rows += _beside_a_backlog(order_by)
    shared = f"{RATE_CALLS}/{RATE_SECONDS:g}s, {TEAMS} busy teams, {WATCHED:g} s"
    return Section("Fairness between teams", rows, f"{shared}; calls of {SLOW * 1000:g} ms beside {BACKLOG:,} jobs")


def _shares() -> Iterator[tuple[str, float, str]]:
    each = int(WATCHED / RATE_SECONDS + 2) * RATE_CALLS // TEAMS * 4
    with _running(turns_rate=f"{RATE_CALLS}/{RATE_SECONDS:g}s") as arena:
        _use_up(arena)  # so that all teams are busy at the first call, and not those that were sequenced first
        _append(
            arena, (change(f"t{team}", seq, assignee=f"m{seq}") for seq in range(1, each + 1) for team in range(TEAMS))
        )
        until(lambda: arena.client.llen(CALLS) > 0, "the first call")
        time.sleep(WATCHED)
        calls = _calls(arena)
    times = sorted(at for _, at in calls)
    made = Counter({f"t{team}": 0 for team in range(TEAMS)})
    made.update(team for team, _ in calls)
    allowed = (int(WATCHED / RATE_SECONDS) + 1) * RATE_CALLS
    yield "rate: most calls in any stretch", float(_most(times, RATE_SECONDS)), "calls"
    yield "rate: used", 100.0 * sum(at <= times[0] + WATCHED for at in times) / allowed, "%"
    yield "rate: calls of a team, least", float(min(made.values())), "calls"
    yield "rate: calls of a team, most", float(max(made.values())), "calls"
    yield "rate: most that a team was ever ahead", float(_ahead(calls)), "calls"


def _use_up(arena: Arena) -> None:
    """The handler's calls of the present stretch."""
    rate = Rate(RATE_CALLS, RATE_SECONDS)
    RateStore(Scripts(arena.client), settings_of(arena).prefix, "turns", rate).take(RATE_CALLS)


def _beside_a_backlog(order_by: str) -> Iterator[tuple[str, float, str]]:
    """One team's thousands, each of a prospect of its own; then teams of one job, in the same partition."""
    names = (f"one{number}" for number in itertools.count())
    home = partition_of("big", DEFAULT_PARTITIONS)
    with _running(turns_order_by=order_by) as arena:
        _append(arena, (change("big", seq, prospect=f"p{seq}") for seq in range(1, BACKLOG + 1)))
        ledger = partitions_of(arena)[home].ledger
        until(lambda: int(arena.client.hget(ledger, "released") or 0) == BACKLOG, "all are in their lanes", deadline=90)
        behind: list[int] = []
        waited: list[float] = []
        for name in itertools.islice((n for n in names if partition_of(n, DEFAULT_PARTITIONS) == home), SINGLES):
            made: Any = arena.client.llen(CALLS)
            began = time.monotonic()
            _append(arena, [change(name, 1)])
            until(lambda name=name, made=made: any(t == name for t, _ in _calls(arena, made)), "the job is called")
            place, at = next((place, at) for place, (team, at) in enumerate(_calls(arena, made)) if team == name)
            behind.append(place)
            waited.append(at - began)
        assert int(arena.client.llen(CALLS)) < BACKLOG, "the backlog was worked off too soon"
    what = f"by {order_by}: one job beside {BACKLOG:,}"
    yield f"{what}: calls before it, median", float(median(behind)), "calls"
    yield f"{what}: calls before it, most", float(max(behind)), "calls"
    yield f"{what}: waited, median", median(waited) * 1000, "ms"
    yield f"{what}: waited, most", max(waited) * 1000, "ms"


@contextmanager
def _running(**options: str) -> Iterator[Arena]:
    with arena_for(Workload(0, 0, ())) as arena:
        fix_partitions(arena.client, settings_of(arena))
        settings = {f"handler_{name}": value for name, value in options.items()} | {"gap_wait": "0s"}
        worker = start_worker(arena.url, "tests.bench.turns", **settings)
        try:
            arena.wait_for_blocked(worker, "brpop")
            yield arena
        finally:
            worker.kill()


def _append(arena: Arena, bodies: Iterable[bytes]) -> None:
    """Into the inboxes, with a bell for each partition that got any."""
    partitions, rung = partitions_of(arena), set()
    bell = Doorbell(settings_of(arena))
    with arena.client.pipeline(transaction=False) as pipe:
        for body in bodies:
            team = body.partition(b'"teamId": "')[2].partition(b'"')[0].decode()
            number = partition_of(team, DEFAULT_PARTITIONS)
            rung.add(number)
            pipe.xadd(partitions[number].inbox, {b"b": body})
            if len(pipe) >= 500:
                pipe.execute()
        pipe.execute()
    for number in rung:
        bell.ring_sequencer(number)
    bell.close()


def _calls(arena: Arena, start: int = 0) -> list[tuple[str, float]]:
    entries: Any = arena.client.lrange(CALLS, start, -1)
    return [(team.decode(), float(at)) for team, at in (entry.split() for entry in entries)]


def _most(times: Sequence[float], seconds: float) -> int:
    """The most within any stretch of so many seconds."""
    first, most = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _ahead(calls: Sequence[tuple[str, float]]) -> int:
    """The most calls that a team had more than another, at any time."""
    counts = Counter({f"t{team}": 0 for team in range(TEAMS)})
    most = 0
    for team, _ in calls:
        counts[team] += 1
        most = max(most, counts[team] - min(counts.values()))
    return most
