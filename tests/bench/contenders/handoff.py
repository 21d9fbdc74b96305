"""Handoff: what is deployed, but for the front door. Inboxes preloaded, ``celery -A worker worker -c 2``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.arena import Arena
from tests.bench.checker import Verdict, check
from tests.processes import Process, python, start, until
from worker.doorbell import BELL_LIFE_MS, SEQUENCE_QUEUE, Doorbell, transport_options
from worker.settings import Settings
from worker.store.installation import fix_partitions
from worker.store.keys import PartitionKeys, partition_of

ROOT: Final = Path(__file__).parents[3]
PROCFILE_FLAGS: Final = ("--loglevel=info", "--without-gossip", "--without-mingle", "--without-heartbeat")
HIDDEN: Final = "hidden:"


@dataclass
class Handoff:
    """``handlers`` is the module that ``HANDOFF_HANDLERS`` names, ``handler`` the handler in it."""

    name: str
    title: str
    handlers: str
    handler: str
    traces: bool = True
    processes: int = 2
    note: str = "the whole of it, but for the front door: dedup, order, changes, leases, retries, books"
    _bell: Doorbell | None = field(default=None, repr=False)

    def why_not(self) -> str | None:
        return None

    def preload(self, arena: Arena) -> None:
        settings = settings_of(arena)
        self._bell = Doorbell(settings)
        partitions = fix_partitions(arena.client, settings)
        load_inboxes(arena, settings, partitions, HIDDEN)

    def start(self, arena: Arena) -> list[Process]:
        worker = start_worker(arena.url, self.handlers, processes=self.processes)
        try:
            arena.wait_for_blocked(worker, "brpop")
            self._ring(arena)  # nothing is there to see yet: this makes the processes' connections
            queue = transport_options(settings_of(arena))["global_keyprefix"] + SEQUENCE_QUEUE
            until(lambda: not arena.client.llen(queue), "the first bells are answered")
        except BaseException:
            worker.kill()
            raise
        return [worker]

    def release(self, arena: Arena) -> None:
        with arena.client.pipeline() as pipe:
            for partition in partitions_of(arena):
                if arena.client.exists(HIDDEN + partition.inbox):
                    pipe.rename(HIDDEN + partition.inbox, partition.inbox)
                    pipe.set(partition.bell, b"1", nx=True, px=BELL_LIFE_MS)
            pipe.execute()
        self._ring(arena)

    def done(self, arena: Arena) -> int:
        return count_done(arena, self.handler)

    def commands_of_done(self, arena: Arena) -> int:
        return len(partitions_of(arena))

    def verdict(self, arena: Arena) -> Verdict | None:
        return check(arena.workload.expected, arena.handled()) if self.traces else None

    def _ring(self, arena: Arena) -> None:
        assert self._bell is not None
        for partition in partitions_of(arena):
            self._bell.ring_sequencer(partition.partition)


def settings_of(arena: Arena) -> Settings:
    return Settings(redis_url=arena.url)


def partitions_of(arena: Arena) -> list[PartitionKeys]:
    settings = settings_of(arena)
    return [PartitionKeys(settings.prefix, number) for number in range(16)]


def load_inboxes(arena: Arena, settings: Settings, partitions: int, before: str = "") -> None:
    """Append every delivery to its partition's inbox, as the ingress does, under names that begin with ``before``."""
    with arena.client.pipeline(transaction=False) as pipe:
        for delivery in arena.workload.deliveries:
            keys = PartitionKeys(settings.prefix, partition_of(delivery.team, partitions))
            pipe.xadd(before + keys.inbox, {b"b": delivery.body})
            if len(pipe) >= 500:
                pipe.execute()
        pipe.execute()


def start_worker(url: str, handlers: str, *, processes: int = 2, **settings: str) -> Process:
    """A worker of so many ``processes``, with the Procfile's flags; ``settings`` are further ``HANDOFF_`` variables."""
    environment = {
        "HANDOFF_REDIS_URL": url,
        "HANDOFF_HANDLERS": handlers,
        "PYTHONPATH": str(ROOT),
        **{f"HANDOFF_{name.upper()}": value for name, value in settings.items()},
    }
    command = python("celery", "-A", "worker", "worker", "-c", str(processes), *PROCFILE_FLAGS)
    return start(command, environment, ROOT)


def count_done(arena: Arena, handler: str) -> int:
    """Jobs that the ledger says have ended well."""
    with arena.client.pipeline(transaction=False) as pipe:
        for partition in partitions_of(arena):
            pipe.hget(partition.ledger, f"done:{handler}")
        return sum(int(count or 0) for count in pipe.execute())


def count_late(arena: Arena) -> int:
    """Events that came too late for their place, and went out marked."""
    with arena.client.pipeline(transaction=False) as pipe:
        for partition in partitions_of(arena):
            pipe.hget(partition.ledger, "late")
        return sum(int(count or 0) for count in pipe.execute())
