"""How an installation is getting on: gathered here as plain values, and judged in words. status_view.py shows it.

Partitions are looked at one after the other, so sums over them are of no single instant, as each one's numbers are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import msgspec
import redis

from worker.core import backpressure
from worker.core.backpressure import Bounds, Load
from worker.doorbell import DELIVER_QUEUE, SEQUENCE_QUEUE
from worker.ops import circuits, tables, worker_probe
from worker.ops.circuits import CircuitStatus, circuit_status
from worker.ops.installed import Installed
from worker.store import backlog, keys, ledger
from worker.store.client import unavailable_as_error
from worker.store.cluster import servers
from worker.store.control import controls
from worker.store.heartbeats import Heartbeats, Worker
from worker.store.installation import known_handlers
from worker.store.ledger import PartitionBooks
from worker.store.look import HandlerLook, PartitionLook, look

BOUNDS: Final = ledger.Bounds(entries=500, size=2 * 1024 * 1024, keys=1000)
"""A few milliseconds a partition: `--watch` counts every second."""

OVERDUE_MS: Final = 30_000
"""So long nothing that is due is left alone by workers that work."""
NOTHING: Final = (
    "nothing has started here yet: start an ingress and a worker (or look at HANDOFF_REDIS_URL and HANDOFF_PREFIX)"
)

COUNTERS: Final = (
    "duplicates", "quarantined", "proofs", "released", "late", "stale", "twins", "gaps", "overflowed"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Server:
    """``kind`` is redis or valkey. Memory in bytes; ``max_memory`` 0 is no bound. ``aof``: appended to a file.

    ``writable``: it is no read-only replica, and its last append to that file went well. Of a
    cluster it is the fullest node; ``aof`` and ``writable`` hold for all.
    """

    kind: str
    version: str
    used_memory: int
    max_memory: int
    aof: bool
    writable: bool


@dataclass(slots=True)
class HandlerStatus:
    """One handler over all partitions. ``queue`` is None when no worker announced it. Times in ms."""

    name: str
    queue: str | None
    waiting: int = 0
    done: int = 0
    discarded: int = 0
    conflated: int = 0
    dead: int = 0
    retried: int = 0
    due: int = 0
    backing_off: int = 0
    claimed: int = 0
    blocked: int = 0
    overdue_ms: int | None = None
    oldest_ms: int | None = None
    circuit: CircuitStatus = field(default_factory=CircuitStatus)


@dataclass(slots=True)
class Deliveries:
    """All deliveries over all partitions; ``counters`` are the ledger's."""

    accepted: int = 0
    unread: int = 0
    held: int = 0
    unread_ms: int | None = None
    held_ms: int | None = None
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))


@dataclass(frozen=True, slots=True)
class Status:
    """``dead`` and ``quarantine`` are how many are kept now. ``queues`` is None when the broker is another server.
    ``load`` is what waits and how full the server is, ``bounds`` where an ingress with our settings answers 503.
    ``workers`` are those that have beaten within a minute."""

    server: Server
    partitions: int
    sweeping: bool
    unsequenced: bool
    deliveries: Deliveries
    handlers: Sequence[HandlerStatus]
    dead: int
    quarantine: int
    drift: Sequence[int]
    queues: Mapping[str, int] | None
    load: Load
    bounds: Bounds
    workers: Sequence[Worker] = ()

    @property
    def problems(self) -> list[str]:
        """What needs a person, a sentence each."""
        return list(_problems(self))

    def document(self) -> dict[str, Any]:
        """The status as JSON has it."""
        deliveries = asdict(self.deliveries)
        return {
            "healthy": not self.problems,
            "problems": self.problems,
            "server": asdict(self.server),
            "partitions": self.partitions,
            "sweeping": self.sweeping,
            "deliveries": deliveries | deliveries.pop("counters"),
            "handlers": [asdict(handler) for handler in self.handlers],
            "dead": self.dead,
            "quarantine": self.quarantine,
            "backlog": {
                "events": self.load.events,
                "max_events": self.bounds.events,
                "bytes": self.load.size,
                "max_bytes": self.bounds.size,
                "memory": self.load.memory,
                "memory_limit": self.bounds.memory,
            },
            "drift": list(self.drift),
            "queues": self.queues,
            "workers": [
                {"state": one.state, "beat_ms": one.now - one.at, **msgspec.to_builtins(one.beat)}
                for one in self.workers
            ],
        }


def gather(found: Installed) -> Status:
    """Look at everything once. Raises ``StoreUnavailable``."""
    announced = known_handlers(found.client, found.settings)
    used = ledger.handlers_in(ledger.read_ledgers(found.client, found.partitions))
    handlers = {
        name: HandlerStatus(name, announced.get(name, {}).get("queue")) for name in sorted(used | set(announced))
    }
    for name, control in controls(found.client, found.settings.prefix, handlers).items():
        handlers[name].circuit = circuit_status(control, announced.get(name, {}))
    deliveries = Deliveries()
    dead, quarantine, drift, unsequenced = 0, 0, [], False
    for partition in found.partitions:
        books = ledger.take(found.scripts, partition, handlers, BOUNDS)
        seen = look(found.scripts, partition, handlers)
        _add_deliveries(deliveries, books, seen)
        for name, handler in handlers.items():
            _add_handler(handler, books.handlers[name], seen.handlers[name])
        dead, quarantine = dead + books.dead, quarantine + books.quarantine
        unsequenced |= (seen.unread_ms or 0) > OVERDUE_MS and not seen.sequencing
        if books.drift or books.stream_drift or any(book.drift for book in books.handlers.values()):
            drift.append(partition.partition)
    load, bounds = _backlog(found)
    server, sweeping, queues = _server(found, [h.queue for h in handlers.values() if h.queue is not None])
    return Status(
        server=server,
        partitions=len(found.partitions),
        sweeping=sweeping,
        unsequenced=unsequenced,
        deliveries=deliveries,
        handlers=list(handlers.values()),
        dead=dead,
        quarantine=quarantine,
        drift=drift,
        queues=queues,
        load=load,
        bounds=bounds,
        workers=Heartbeats(found.client, found.scripts, found.settings.prefix).read(),
    )


def _problems(status: Status) -> Iterable[str]:
    if not status.partitions:
        yield NOTHING
        return
    if not status.server.writable:
        yield "the state server takes no writes (a read-only replica, or a full disk), so deliveries are refused"
    if not status.sweeping:
        yield "no worker seems to run: nobody sweeps"
    elif status.unsequenced:
        yield f"deliveries wait and nobody sequences them: does a worker read the queue {SEQUENCE_QUEUE}?"
    yield from worker_probe.tell(status.workers)
    if status.drift:
        where = ", ".join(map(str, status.drift[:10])) + (" ..." if len(status.drift) > 10 else "")
        yield f"the books do not add up in partition {where}: see `handoff audit`"
    if status.dead:
        count = tables.plural(status.dead, "dead letter")
        yield f"{count} to look at: see `handoff dead list`, then `handoff dead retry` or `drop`"
    if status.quarantine:
        count = tables.plural(status.quarantine, "quarantined delivery", "quarantined deliveries")
        yield f"{count} to look at: see `handoff quarantine list`, then `handoff quarantine retry` or `drop`"
    for handler in status.handlers:
        if handler.queue is None and handler.waiting:
            jobs = tables.plural(handler.waiting, "job")
            yield f"handler {handler.name} has {jobs} but no worker announces it: is its module in HANDOFF_HANDLERS?"
        elif status.sweeping and not _at_work(handler) and (handler.overdue_ms or 0) > OVERDUE_MS:
            waited = f"handler {handler.name} has had work for {tables.age(handler.overdue_ms)} and nobody takes it"
            yield f"{waited}: does a worker read the queue {handler.queue}?"
        yield from circuits.problems(handler.name, handler.circuit)
        if handler.blocked:
            lanes = tables.plural(handler.blocked, "blocked or paused lane")
            yield f"handler {handler.name} has {lanes}: see `handoff lanes list`, then `unblock` or `resume`"
    yield from backpressure.warnings(status.load, status.bounds)


def _at_work(handler: HandlerStatus) -> bool:
    return bool(handler.claimed) or handler.circuit.holds


def _add_deliveries(total: Deliveries, books: PartitionBooks, seen: PartitionLook) -> None:
    total.accepted += books.accepted
    total.unread += books.unread
    total.held += books.held
    total.unread_ms = _longest(total.unread_ms, seen.unread_ms)
    total.held_ms = _longest(total.held_ms, seen.held_ms)
    for name in COUNTERS:
        total.counters[name] += books.ledger.get(name, 0)


def _add_handler(total: HandlerStatus, books: ledger.HandlerBooks, seen: HandlerLook) -> None:
    for name in ("waiting", "done", "discarded", "conflated", "dead", "retried"):
        setattr(total, name, getattr(total, name) + getattr(books, name))
    for name in ("due", "backing_off", "claimed", "blocked"):
        setattr(total, name, getattr(total, name) + getattr(seen, name))
    total.overdue_ms = _longest(total.overdue_ms, seen.overdue_ms)
    total.oldest_ms = _longest(total.oldest_ms, seen.oldest_ms)


def _backlog(found: Installed) -> tuple[Load, Bounds]:
    with unavailable_as_error():
        measured = backlog.measure(found.client, backlog.Scale(found.partitions))
    load = Load(measured.events, measured.size, measured.memory)
    return load, backpressure.bounds_of(
        found.settings.max_backlog, found.settings.max_backlog_bytes, found.settings.max_memory, measured.max_memory
    )


def _longest(one: int | None, other: int | None) -> int | None:
    return max((ms for ms in (one, other) if ms is not None), default=None)


def _server(found: Installed, queues: Iterable[str]) -> tuple[Server, bool, dict[str, int] | None]:
    """The server, whether somebody sweeps, and the doorbells that wait in each queue."""
    settings = found.settings
    # The broker's lists can be looked at where they are on the server that we talk to (worker/doorbell.py names them).
    names = list(dict.fromkeys([SEQUENCE_QUEUE, DELIVER_QUEUE, *queues])) if settings.rings_on_store else []
    with unavailable_as_error():
        each = [_described(one) for one in servers(found.client)]
        pipe = found.client.pipeline(transaction=False)
        pipe.exists(keys.sweeper(settings.prefix))
        for name in names:
            pipe.llen(f"{settings.prefix}:broker:{name}")
        sweeping, *lengths = pipe.execute()
    # Of a cluster: the fullest node, which is the first to refuse; and what is not so for one of them is not so.
    server = replace(
        max(each, key=lambda one: (one.used_memory / one.max_memory if one.max_memory else 0.0, one.used_memory)),
        aof=all(one.aof for one in each),
        writable=all(one.writable for one in each),
    )
    return server, bool(sweeping), dict(zip(names, lengths, strict=True)) if names else None


def _described(client: redis.Redis) -> Server:
    """One server, or node of a cluster. Raises as redis-py does."""
    pipe = client.pipeline(transaction=False)
    for section in ("server", "memory", "persistence", "replication"):
        pipe.info(section)
    about, memory, persistence, replication = pipe.execute()
    valkey = about.get("valkey_version")
    return Server(
        kind="valkey" if valkey else "redis",
        version=str(valkey or about.get("redis_version", "?")),
        used_memory=int(memory.get("used_memory", 0)),
        max_memory=int(memory.get("maxmemory", 0)),
        aof=bool(persistence.get("aof_enabled")),
        writable=not replication.get("slave_read_only") and persistence.get("aof_last_write_status", "ok") == "ok",
    )
