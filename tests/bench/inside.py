"""Handoff without the Celery around it: sequencer and runner in this process, on a server of its own, cost by cost.

What a real worker adds to it is a doorbell for some hundreds of events. Here nothing happens beside what is measured,
so that the cost of an event can be looked at while ten or a million others wait.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

import redis

from tests.bench.arena import arena_for
from tests.bench.contenders.handoff import settings_of
from tests.bench.synthetic import FIRST, team_of
from tests.bench.workload import Workload
from tests.runtime_kit import NotedBells, spec_of
from worker import Context, Event
from worker.core.handlers import HandlerSpec
from worker.core.sequencing import TeamState
from worker.ops.embedded import NODE_BYTES
from worker.ops.samples import SampleDelivery
from worker.runtime.keeper import Keeper
from worker.runtime.process import Process
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer
from worker.settings import DEFAULT_PARTITIONS
from worker.store.client import connect
from worker.store.keys import PartitionKeys, partition_of
from worker.store.records import encode_team
from worker.store.scripts import Scripts

GAP_WAIT: Final = 60.0  # seconds; whatever is displaced comes before that, and no team is heard of for the first time
PIPELINED: Final = 500


@dataclass(frozen=True)
class Cost:
    """Of ``events`` together: CPU seconds of this process and of the server, seconds by the clock, and commands, those
    inside scripts included."""

    events: int
    own: float
    server: float
    wall: float
    commands: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Self) -> Cost:
        return Cost(
            self.events + other.events,
            self.own + other.own,
            self.server + other.server,
            self.wall + other.wall,
            self.commands + other.commands,
        )

    @property
    def own_each(self) -> float:
        """CPU us an event."""
        return self.own / self.events * 1e6

    @property
    def server_each(self) -> float:
        """CPU us an event."""
        return self.server / self.events * 1e6

    @property
    def each(self) -> float:
        """CPU us an event, on both sides."""
        return self.own_each + self.server_each


NOTHING: Final = Cost(0, 0.0, 0.0, 0.0)


class Calls:
    """What one handler was called with: each team's events have to come one after another, from the first on."""

    def __init__(self) -> None:
        self.next: dict[str, int] = {}
        self.wrong = 0

    async def handle(self, event: Event, ctx: Context) -> None:
        due = self.next.get(event.team_id, FIRST)
        self.wrong += event.seq != due
        self.next[event.team_id] = event.seq + 1

    @property
    def made(self) -> int:
        return sum(self.next.values()) - FIRST * len(self.next)


class Inside:
    """One installation. ``calls`` are those of its handlers, by name."""

    def __init__(self, client: redis.Redis, prefix: str, process: Process, calls: dict[str, Calls]) -> None:
        self.calls = calls
        self._client = client
        self._process = process
        self._keys = [PartitionKeys(prefix, number) for number in range(DEFAULT_PARTITIONS)]

    def know(self, teams: int) -> None:
        """What is kept of so many teams whose last event was the one before ``FIRST``."""
        text = encode_team(TeamState(FIRST - 1))
        with self._client.pipeline(transaction=False) as pipe:
            for index in range(teams):
                team = team_of(index)
                pipe.set(self._keys[partition_of(team, DEFAULT_PARTITIONS)].team(team), text)
                if len(pipe) >= PIPELINED:
                    pipe.execute()
            pipe.execute()

    def load(self, deliveries: Iterable[SampleDelivery]) -> None:
        """Into the inboxes, as the ingress does, and no more of them in memory than a pipeline takes."""
        with self._client.pipeline(transaction=False) as pipe:
            for delivery in deliveries:
                partition = partition_of(delivery.team, DEFAULT_PARTITIONS)
                pipe.xadd(self._keys[partition].inbox, {b"b": delivery.body})
                if len(pipe) >= PIPELINED:
                    pipe.execute()
            pipe.execute()

    def sequence(self, most: float = float("inf")) -> Cost:
        """Until nothing is left to read, or ``most`` events are released (a time slice more)."""

        def work() -> int:
            before = released = self._count("released")
            read = 1
            while read and released - before < most:
                read = 0
                for keys in self._keys:
                    read += Sequencer(self._process, keys.partition).run()
                    released = self._count("released")
                    if released - before >= most:
                        break
            return released - before

        return self._measured(work)

    def sequence_one(self, partition: int) -> float:
        """One answer to a doorbell; CPU us, of both sides."""
        server, own = self._server_cpu(), time.process_time()
        Sequencer(self._process, partition).run()
        return (time.process_time() - own + self._server_cpu() - server) * 1e6

    def run(self, most: float = float("inf")) -> Cost:
        """Until no job is left, or ``most`` have ended (a time slice more)."""

        def work() -> int:
            done, ended = 0, 1
            while ended and done < most:
                ended = 0
                for keys in self._keys:
                    for spec in self._process.registry.values():
                        ended += Runner(self._process, spec, keys.partition).run()
                    if done + ended >= most:
                        break
                done += ended
            return done

        return self._measured(work)

    def check(self, counts: dict[int, int] | None = None) -> None:
        """Raises ``AssertionError`` if any call was out of order, lost or doubled; ``counts``: if one is missing."""
        wrong = {name: calls.wrong for name, calls in self.calls.items() if calls.wrong}
        assert not wrong, f"calls out of order, lost or doubled: {wrong}"
        if counts is not None:
            expected = {team_of(index): FIRST + count for index, count in counts.items()}
            missing = [name for name, calls in self.calls.items() if calls.next != expected]
            assert not missing, f"events that never came to {', '.join(missing)}"

    def _count(self, name: str) -> int:
        with self._client.pipeline(transaction=False) as pipe:
            for keys in self._keys:
                pipe.hget(keys.ledger, name)
            return sum(int(count or 0) for count in pipe.execute())

    def _measured(self, work: Any) -> Cost:
        self._client.config_resetstat()
        server, own, began = self._server_cpu(), time.process_time(), time.perf_counter()
        events = work()
        wall, own, server = time.perf_counter() - began, time.process_time() - own, self._server_cpu() - server
        stats: Any = self._client.info("commandstats")
        calls = Counter({name.removeprefix("cmdstat_"): int(found["calls"]) for name, found in stats.items()})
        return Cost(events, own, server, wall, calls)

    def _server_cpu(self) -> float:
        info: Any = self._client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


@contextmanager
def inside(handlers: int = 1) -> Iterator[Inside]:
    """``handlers`` handlers that want every event and only note it."""
    calls = {f"h{number}": Calls() for number in range(handlers)}
    registry: dict[str, HandlerSpec] = {name: spec_of(found.handle, name=name, on="*") for name, found in calls.items()}
    thresholds = gc.get_threshold()
    with arena_for(Workload(0, 0, ())) as arena:
        arena.client.config_set("stream-node-max-bytes", NODE_BYTES)
        settings = settings_of(arena).model_copy(update={"gap_wait": GAP_WAIT})
        bells: Any = NotedBells()
        with connect(settings) as client:
            process = Process(settings, registry, client, Scripts(client), bells, Keeper())
            gc.collect()
            gc.freeze()  # as a worker process does, see worker/runtime/process.py
            gc.set_threshold(20_000, 20, 50)
            try:
                yield Inside(client, settings.prefix, process, calls)
            finally:
                gc.set_threshold(*thresholds)
                gc.unfreeze()
