"""What conflation saves after an outage: 100,000 changes wait on 1,000 prospects, and a runner drains them.

In one process, so that what is compared is the work and not the number of workers; partitions take turns.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import redis
import structlog

from tests import servers
from tests.bench.sections import Section
from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change, to
from worker.core.dispatch import Terms
from worker.core.handlers import HandlerSpec
from worker.runtime.runner import Runner
from worker.settings import Settings
from worker.store.client import connect
from worker.store.keys import PartitionKeys

CHANGES: Final = 100_000
PROSPECTS: Final = 1_000
TEAMS: Final = 50
BATCH: Final = 10_000
MEMBERS: Final = 10
PAD: Final = 1_200  # makes bodies as long as the sample's
ASYNC_SECONDS: Final = 0.005


class Calls:
    def __init__(self) -> None:
        self.count = 0
        self.owners: dict[tuple[str, str], str | None] = {}

    def note(self, subject: Any) -> None:
        self.count += 1
        self.owners[subject.team_id, subject.prospect.key] = subject.assignee_id

    def plain(self, subject: Any, _ctx: Any) -> None:
        self.note(subject)

    async def slow(self, subject: Any, _ctx: Any) -> None:
        await asyncio.sleep(ASYNC_SECONDS)
        self.note(subject)


def conflation(seed: int) -> Section:
    """Number of calls and time to drain, with and without, for a handler that does nothing and for one of 5 ms."""
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    rows: list[tuple[str, float, str]] = []
    for conflate in (True, False):
        for name, kind in (("no-op", Calls.plain), ("async, 5 ms", Calls.slow)):
            calls, seconds, pause = _drained(seed, kind, conflate=conflate)
            what = f"{name}, {'conflated' if conflate else 'one by one'}"
            rows += [(f"{what}: calls", calls, ""), (f"{what}: drained in", seconds, "s")]
            if conflate:
                rows.append((f"{what}: longest script", pause, "ms"))
    note = f"{CHANGES:,} changes of {PROSPECTS:,} prospects of {TEAMS} teams wait; one process drains them"
    return Section("After an outage", rows, note)


def _drained(seed: int, kind: Callable[..., Any], *, conflate: bool) -> tuple[int, float, float]:
    calls = Calls()
    spec = spec_of(kind.__get__(calls), conflate=conflate)
    with servers.running("valkey") as url:
        settings = Settings(redis_url=url, prefix="bench", partitions=1)
        client = connect(settings)
        partition = Partition(settings, client, PartitionKeys("bench", 0))
        newest = _fill(partition, seed, conflate=conflate)
        # Every call to the server of more than 2 ms is noted.
        client.config_set("slowlog-log-slower-than", 2000)
        client.config_set("slowlog-max-len", 10_000)
        client.slowlog_reset()
        began = time.perf_counter()
        _drain(partition, spec)
        seconds = time.perf_counter() - began
        pause = max((entry["duration"] for entry in _slow(client)), default=0) / 1000
        books = partition.balanced("crm")
        assert books.handlers["crm"].done == calls.count
        if not conflate:
            assert calls.owners == newest
        client.close()
    return calls.count, seconds, pause


def _slow(client: redis.Redis) -> Iterator[dict[str, Any]]:
    yield from client.slowlog_get(10_000)


def _fill(partition: Partition, seed: int, *, conflate: bool) -> dict[tuple[str, str], str]:
    chance = random.Random(seed)
    seqs = dict.fromkeys((f"team{number}" for number in range(TEAMS)), 0)
    owners: dict[tuple[str, str], str] = {}
    made = 0
    while made < CHANGES:
        bodies = []
        for _ in range(min(BATCH, CHANGES - made)):
            prospect = chance.randrange(PROSPECTS)
            team, name = f"team{prospect % TEAMS}", f"p{prospect}"
            owner = chance.choice([f"m{n}" for n in range(MEMBERS) if owners.get((team, name)) != f"m{n}"])
            owners[team, name] = owner
            seqs[team] += 1
            bodies.append(change(team, seqs[team], prospect=name, assignee=owner, pad=PAD))
        partition.sequence(*bodies, route=to(Terms("crm", conflate=conflate)))
        made += len(bodies)
    return owners


def _drain(partition: Partition, spec: HandlerSpec) -> None:
    process, _ = process_of(partition, spec)
    while partition.client.zcard(partition.keys.ready("crm")):
        Runner(process, spec, partition.keys.partition).run()
