"""One partition on a real server, and short ways to fill it, sequence it and look into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from worker.core.dispatch import Route, Terms
from worker.core.lateness import GapWait
from worker.core.sequencing import Plan, Policy, plan
from worker.settings import Settings
from worker.store import ledger
from worker.store.batch import Batch
from worker.store.client import connect
from worker.store.keys import PartitionKeys
from worker.store.lanes import LaneStore
from worker.store.ledger import PartitionBooks
from worker.store.scripts import Code, Scripts
from worker.store.sequence import Lease, SequenceStore

AT_ONCE = Policy(gap_wait=GapWait(fixed_ms=0))
"""Gaps are given up as soon as there is nothing more to read."""
PATIENT = Policy(gap_wait=GapWait(fixed_ms=3_600_000))

HANDLERS = ("crm", "mail", "audit")


def to(*handlers: str | Terms) -> Route:
    """Everything goes to these handlers, by team where no terms are named."""
    terms = [Terms(handler) if isinstance(handler, str) else handler for handler in handlers]
    return lambda _type, _change: terms


TO_CRM = to("crm")


def change(
    team: str, seq: int, *, prospect: str = "p", assignee: str | None = "m1", event_id: str | None = None, pad: int = 0
) -> bytes:
    """A ``prospect.assigneeChanged`` of the shape that the provider documents, ``pad`` bytes longer."""
    return json.dumps(
        {
            "id": event_id or f"{team}-{seq}",
            "seq": seq,
            "type": "prospect.assigneeChanged",
            "teamId": team,
            "timestamp": "2026-03-01T12:00:00.000Z",
            "data": {
                "prospect": {
                    "platform": "twitter",
                    "platformId": "1",
                    "externalId": prospect,
                    "bio": "x" * pad,
                    "context": {"assigneeId": assignee},
                }
            },
        }
    ).encode()


def other(team: str, seq: int, *, event_type: str = "message.created", event_id: str | None = None) -> bytes:
    """An event that says nothing of an owner."""
    document = {"id": event_id or f"{team}-{seq}", "seq": seq, "type": event_type, "teamId": team, "data": {}}
    return json.dumps(document).encode()


def seq_of(body: bytes) -> int:
    return int(json.loads(body)["seq"])


@dataclass
class Partition:
    """A partition of an installation of its own. Every access to the server goes through ``client``."""

    settings: Settings
    client: redis.Redis
    keys: PartitionKeys
    scripts: Scripts = field(init=False)

    def __post_init__(self) -> None:
        self.scripts = Scripts(self.client)

    @property
    def store(self) -> SequenceStore:
        return SequenceStore(self.client, self.scripts, self.keys, self.settings)

    def lanes(self, handler: str = "crm", *, conflate: bool = False) -> LaneStore:
        return LaneStore(self.client, self.scripts, self.keys, handler, conflate=conflate)

    def append(self, *bodies: bytes, team: str | None = None) -> list[str]:
        """What the ingress does: the bodies into the inbox."""
        extra: dict[Any, Any] = {} if team is None else {"t": team}
        pipe = self.client.pipeline(transaction=False)
        for body in bodies:
            pipe.xadd(self.keys.inbox, {"b": body, **extra})
        return [entry.decode() for entry in pipe.execute()]

    def acquire(self) -> Lease:
        lease = self.store.acquire()
        assert lease is not None
        return lease

    def step(
        self, lease: Lease, route: Route = TO_CRM, *, policy: Policy = AT_ONCE, count: int = 1000
    ) -> tuple[Batch, Plan]:
        """One batch: read, load, plan, commit."""
        batch, decided = self.prepare(lease, policy=policy, count=count)
        self.store.commit(lease, batch, decided, route, self.settings.quarantine_max)
        return batch, decided

    def prepare(self, lease: Lease, *, policy: Policy = AT_ONCE, count: int = 1000) -> tuple[Batch, Plan]:
        """One batch up to the commit."""
        store = self.store
        batch = store.read(lease, count)
        return batch, plan(store.load(lease, batch), batch.deliveries, batch.clock, policy, batch.due)

    def sequence(self, *bodies: bytes, route: Route = TO_CRM, policy: Policy = AT_ONCE, count: int = 1000) -> None:
        """Append the bodies, and let a sequencer take all that there is to take."""
        self.append(*bodies)
        lease = self.acquire()
        while True:
            self.step(lease, route, policy=policy, count=count)
            if self.store.release(lease, hand_on=False)[0] is not Code.MORE:
                return

    def expire_lease(self) -> None:
        """As time would, once the sequencer stopped renewing."""
        self.client.delete(self.keys.lease)

    def expire_claims(self, handler: str = "crm") -> None:
        """Every claimed or waiting lane is due: the leases' ends and the retries' times have come."""
        ready = self.keys.ready(handler)
        for lane in self.client.zrange(ready, 0, -1):
            self.client.zadd(ready, {lane: 1})

    def in_lane(self, handler: str, lane: str) -> list[bytes]:
        return self.client.lrange(self.keys.lane(handler, lane), 0, -1)

    def seqs_in(self, handler: str, lane: str) -> list[int]:
        return [int(job.split(b" ")[3]) for job in self.in_lane(handler, lane)]

    def books(self, *handlers: str) -> PartitionBooks:
        return ledger.take(self.scripts, self.keys, handlers or HANDLERS)

    def balanced(self, *handlers: str) -> PartitionBooks:
        """The books; asserts that nothing is missing and nothing too many."""
        books = self.books(*handlers)
        drifts = {name: book.drift for name, book in books.handlers.items()}
        assert (books.drift, books.stream_drift, set(drifts.values())) == (0, 0, {0}), (books, drifts)
        return books

    def names(self) -> set[str]:
        """The partition's keys, without what all of them begin with."""
        found = self.client.scan_iter(match=self.keys.base.replace("[", "\\[") + ":*", count=1000)
        return {name.decode(errors="surrogateescape")[len(self.keys.base) + 1 :] for name in found}

    def dump(self, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """Everything that is stored, by key, read type by type."""
        return {name: self._value(f"{self.keys.base}:{name}") for name in self.names() if name not in without}

    def remember(self) -> dict[str, tuple[bytes, int]]:
        """Everything that is stored, as ``forget_since`` takes it."""
        found = {}
        for name in self.names():
            key = f"{self.keys.base}:{name}"
            left, value = self.client.pttl(key), self.client.dump(key)
            if value is not None:
                found[key] = (value, max(0, left))
        return found

    def forget_since(self, remembered: dict[str, tuple[bytes, int]]) -> None:
        """What a server does that takes the place of another before it had all of its writes."""
        for name in self.names():
            self.client.delete(f"{self.keys.base}:{name}")
        for key, (value, left) in remembered.items():
            self.client.restore(key, left, value)

    def _value(self, key: str) -> Any:
        kind = self.client.type(key).decode()
        client: Any = self.client
        match kind:
            case "string":
                return client.get(key)
            case "hash":
                return client.hgetall(key)
            case "list":
                return client.lrange(key, 0, -1)
            case "set":
                return client.smembers(key)
            case "zset":
                return client.zrange(key, 0, -1, withscores=True)
            case "stream":
                return client.xrange(key)
        raise AssertionError(f"{key} is a {kind}")


@contextmanager
def partition_on(url: str, prefix: str, **settings: Any) -> Iterator[Partition]:
    # Without an archive a body leaves with its last job, which is what most tests look for.
    given = {"archive_events": 0, "broker_url": "memory://", "partitions": 4, **settings}
    made = Settings(redis_url=url, prefix=prefix, **given)
    client = connect(made)
    try:
        yield Partition(made, client, PartitionKeys(prefix, 1))
    finally:
        client.close()
