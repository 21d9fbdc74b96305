"""Takes a sample every few seconds, in a thread: of all processes, of every key, and of the books.

It asks the server itself, past the proxies. A server that is away, or stopped, is left out of a sample.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import redis

from tests.chaos.cluster import Cluster
from tests.chaos.history import Terms
from tests.soak import families, system
from tests.soak.families import LENGTH, Families
from tests.soak.samples import SERVER, FamilySample, ProcessSample, Sample, ServerSample
from worker.errors import StoreError
from worker.ops.auditing import checks_of
from worker.store import ledger
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts

TOGETHER: Final = 500  # keys that are asked for in one pipeline


class Sampler:
    """``samples`` are those so far. ``keep`` is called with each."""

    def __init__(
        self, cluster: Cluster, terms: Sequence[Terms], period: float, keep: Callable[[Sample], None] = lambda _: None
    ) -> None:
        self.samples: list[Sample] = []
        self._cluster = cluster
        self._handlers = [term.name for term in terms]
        self._families = Families(cluster.settings.prefix)
        self._period = period
        self._keep = keep
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sampler")

    def start(self) -> None:
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def take(self) -> Sample:
        """One sample now."""
        at = time.monotonic() - self._began
        processes = list(self._processes())
        server = found = drift = released = None
        with suppress(StoreError, redis.exceptions.RedisError), self._cluster.server.client() as client:
            server = _server(client)
            found = _families(client, self._families)
            books = self._books(client)
            drift = [
                f"partition {check.partition}, {check.name}: drift {check.drift}, {check.numbers}"
                for each in books
                for check in checks_of(each)
                if check.drift
            ]
            released = sum(each.ledger.get("released", 0) for each in books)
        sample = Sample(at, processes, server, found, drift, released)
        self.samples.append(sample)
        self._keep(sample)
        return sample

    def _run(self) -> None:
        due = self._began
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self.take()
            due = max(due + self._period, time.monotonic())

    def _books(self, client: redis.Redis) -> list[ledger.PartitionBooks]:
        settings, scripts = self._cluster.settings, Scripts(client)
        keys = [PartitionKeys(settings.prefix, number) for number in range(settings.partitions or 0)]
        return [ledger.take(scripts, each, self._handlers) for each in keys]

    def _processes(self) -> Iterator[ProcessSample]:
        cluster = self._cluster
        if cluster.server.process is not None:
            yield from _one(SERVER, SERVER, cluster.server.process.pid)
        for kept in cluster.ingresses:
            yield from _one("ingress", kept.name, kept.pid)
        for number, kept in enumerate(cluster.workers):
            kind = "worker" if number < cluster.setup.workers else "slow worker"
            for place, pid in enumerate(kept.pids):
                yield from _one(f"{kind}'s child" if place else kind, kept.name, pid)


def _one(kind: str, name: str, pid: int | None) -> Iterator[ProcessSample]:
    facts = system.facts(pid) if pid is not None else None
    if pid is not None and facts is not None:
        yield ProcessSample(kind, name, pid, facts.born, facts.rss, facts.files, facts.threads)


def _server(client: redis.Redis) -> ServerSample:
    info: Any = client.info("everything")
    return ServerSample(info["used_memory"], info["connected_clients"], info.get("aof_current_size", 0))


def _families(client: redis.Redis, known: Families) -> dict[str, FamilySample]:
    """Every key of the database, by family; families without keys are there too."""
    types = families.rows()
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    keys = list(client.scan_iter(count=1000))
    for start in range(0, len(keys), TOGETHER):
        some = keys[start : start + TOGETHER]
        names = [key.decode(errors="replace") for key in some]
        of = [known.of(name) for name in names]
        pipe = client.pipeline(transaction=False)
        for key, family in zip(some, of, strict=True):
            pipe.execute_command(LENGTH[types[family]] if family in types else "EXISTS", key)
            pipe.memory_usage(key)
        answers = pipe.execute(raise_on_error=False)
        for number, family in enumerate(of):
            entries, size = answers[2 * number : 2 * number + 2]
            if not isinstance(size, int):
                continue  # it has gone meanwhile
            row = types.get(family)
            row_sum = found[family]
            row_sum[0] += 1
            # A string's length says nothing of how many things it is about: a key is one.
            row_sum[1] += 1 if row in (None, "string") or not isinstance(entries, int) else entries
            row_sum[2] += size
    return {family: FamilySample(*found[family]) for family in families.BOUNDS}
