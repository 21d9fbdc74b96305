"""The deliveries that wait for one server, and the batches that take them there.

    put ──▶ waiting ──(next turn of the loop)──▶ one batch, one round trip ──▶ each delivery: STORED or why not
               ▲                                        │
               └── what arrives while a batch is under way collects here

One batch is under way at a time: two or four were measured, and made half as much, for the batches got smaller. It is
the same where each waits for a disk: two at a time, on a disk of 4 ms, made three quarters.
A batch is one write to the socket: an XADD per delivery and, after them, a command per partition touched that rings or
marks a bell which was not out yet (ingress/bells.py). The deliveries of a batch are no transaction: if the
connection ends half way, those whose reply had come are stored, the others are told that it is not known, answer 503
and come back as duplicates. Every delivery is told within ``PATIENCE`` seconds, whatever the server does.

With ``flush`` a batch is stored when the server's disk has it: the same commands between MULTI and EXEC, then a
``WAITAOF 1 0`` (store/durability.py says when that is true). When the disk takes too long, or the server will not say,
the batch is not known. The transaction is for the disk: a server reads 16 KB of a connection at a time, executes what
it has read and calls fsync, so once for every ten deliveries; of a transaction it executes nothing before it has all.
In a cluster each partition has its own, for a transaction is about one slot.

A node of a cluster may answer that another one has the partition (MOVED, or ASK while it moves): that delivery was not
stored, and is handed to whoever knows the nodes. A server that became a replica refuses to write for good: its
connection is given up, so that the next goes where Sentinels, or a name, say that the primary is.

redis-py makes, checks and closes the connections; what goes over them is not its own (ingress/link.py says why).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import islice
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol

import hiredis
import redis.asyncio
import redis.exceptions

from ingress.bells import Bells
from ingress.link import Link, Links
from ingress.metrics import Metrics
from ingress.sparing import SparingLog
from worker.store.client import describe
from worker.store.durability import SETTING

PATIENCE: Final = 1.5  # seconds from submit to outcome at most; the provider must have its answer within two
FLUSH_MARGIN: Final = 0.05  # seconds of that for the reply, where the disk takes all the others
BATCH_DELIVERIES: Final = 512
BATCH_BYTES: Final = 4 * 1024 * 1024

Redirected = redis.exceptions.AskError  # and its subclass MovedError


class Outcome(StrEnum):
    """What became of one delivery. All but ``STORED`` are answered 503."""

    STORED = "stored"  # Redis has confirmed it
    REFUSED = "refused"  # Redis answered with an error: read-only, out of memory, ...; nothing was stored
    UNKNOWN = "unknown"  # no reply in time, or no connection: stored or not
    OVERLOADED = "overloaded"  # too many are waiting already; not tried


_STORED: Final = Outcome.STORED


class Delivery(NamedTuple):
    """``asking``: two commands, of which the first tells a node that it is to take what is not its own yet. ``hops``:
    how often it was handed to another node."""

    outcome: asyncio.Future[Outcome]
    partition: int
    command: bytes
    size: int
    deadline: float  # of the loop's clock
    asking: bool = False
    hops: int = 0


class Front(Protocol):
    """Where deliveries come from, and what became of them goes to."""

    stored: int  # deliveries since the start, and their bytes
    stored_bytes: int

    @property
    def bells(self) -> Bells: ...

    def tell(self, delivery: Delivery, outcome: Outcome) -> None: ...
    def ring(self, partitions: Iterable[int]) -> None: ...
    def redirect(self, line: Line, delivery: Delivery, error: Redirected) -> None: ...
    def failed(self, line: Line) -> None: ...


class Line:
    """One server's. Its connections carry no time-out of their own."""

    def __init__(
        self,
        pool: redis.asyncio.ConnectionPool,
        front: Front,
        metrics: Metrics,
        log: SparingLog,
        *,
        flush: bool = False,
        clustered: bool = False,
    ) -> None:
        self._links = Links(pool)
        self._clustered = clustered
        self._send = self._store_and_flush if flush else self._store_only
        self._front = front
        self._metrics = metrics
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._commit_due = False
        self._commit: asyncio.Task[None] | None = None  # under way; kept here, or it might be collected

    def put(self, delivery: Delivery, *, first: bool = False) -> None:
        """Have it stored with the next batch. ``first``: it has waited before; a batch has its first's patience."""
        if first:
            self._waiting.appendleft(delivery)
        else:
            self._waiting.append(delivery)
        if not self._commit_due and self._commit is None:
            self._commit_due = True
            self._loop.call_soon(self._begin_commit)

    def take_waiting(self) -> list[Delivery]:
        """Those that are in no batch yet; they are the caller's now."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def drain(self) -> None:
        """Wait until everything that was put here has its outcome, or was handed on."""
        while self._waiting or self._commit is not None:
            if self._commit is None:
                self._begin_commit()
            else:
                await asyncio.wait([self._commit])

    async def close(self) -> None:
        """Let go of the connections."""
        await self._links.close()

    def _begin_commit(self) -> None:
        self._commit_due = False
        if self._waiting and self._commit is None:
            self._commit = self._loop.create_task(self._store(self._next_batch()))
            self._commit.add_done_callback(self._end_commit)

    def _end_commit(self, _commit: asyncio.Task[None]) -> None:
        self._commit = None
        self._begin_commit()

    def _next_batch(self) -> list[Delivery]:
        batch: list[Delivery] = []
        size = 0
        while self._waiting and len(batch) < BATCH_DELIVERIES and (not batch or size < BATCH_BYTES):
            batch.append(delivery := self._waiting.popleft())
            size += delivery.size
        return batch

    async def _store(self, batch: list[Delivery]) -> None:
        started = perf_counter()
        outcomes: list[Outcome | None] = [Outcome.UNKNOWN] * len(batch)
        try:
            # The oldest delivery's patience is the batch's. What has waited that long fails without being sent.
            async with asyncio.timeout_at(batch[0].deadline):
                link = await self._links.take()
                try:
                    await self._send(link, batch, outcomes)
                except BaseException:
                    # Replies may be on their way still; whoever used the connection next would take them for its own.
                    await self._links.let_go(broken=True)
                    raise
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            self._log.warning("store_unavailable", type(error).__name__, error=describe(error))
            self._front.failed(self)
        finally:
            stored, size = self._front.stored, self._front.stored_bytes
            for delivery, outcome in zip(batch, outcomes, strict=True):
                if outcome is not None:
                    self._front.tell(delivery, outcome)
            self._metrics.accepted.inc(self._front.stored - stored)
            self._metrics.bytes.inc(self._front.stored_bytes - size)
            self._metrics.batch_size.observe(len(batch))
            self._metrics.commit_seconds.observe(perf_counter() - started)

    async def _store_only(self, link: Link, batch: list[Delivery], outcomes: list[Outcome | None]) -> None:
        """Send the batch, and note in ``outcomes`` what each reply says, also where not all of them come; None of those
        handed on."""
        partitions = list({delivery.partition for delivery in batch})
        commands = [delivery.command for delivery in batch]
        commands += [self._front.bells[partition] for partition in partitions]
        asking = [at for at, delivery in enumerate(batch) if delivery.asking]
        replies: list[Any] = []
        demoted = False
        try:
            await link.exchange(commands, len(commands) + len(asking), replies)
        finally:
            for at in asking:
                del replies[at : at + 1]  # each before its delivery's own: those before it are gone already
            for at, reply in enumerate(replies[: len(batch)]):
                if isinstance(reply, Exception):
                    outcomes[at] = self._refused(batch[at], reply)
                    demoted = demoted or isinstance(reply, redis.exceptions.ReadOnlyError)
                else:
                    outcomes[at] = _STORED
        self._ring_new(partitions, replies[len(batch) :])
        if demoted:
            await self._links.let_go(broken=True)

    async def _store_and_flush(self, link: Link, batch: list[Delivery], outcomes: list[Outcome | None]) -> None:
        """The same in transactions, whose outcomes are noted when the disk has answered."""
        partitions = list({delivery.partition for delivery in batch})
        groups = [[partition] for partition in partitions] if self._clustered else [partitions]
        shares = [[at for at, delivery in enumerate(batch) if delivery.partition in group] for group in groups]
        commands = []
        for group, places in zip(groups, shares, strict=True):
            commands += [
                _MULTI,
                *(batch[at].command for at in places),
                *map(self._front.bells.__getitem__, group),
                _EXEC,
            ]
        left = batch[0].deadline - self._loop.time() - FLUSH_MARGIN
        commands.append(pack(b"WAITAOF", b"1", b"0", str(max(1, int(left * 1000)))))  # 0 would be for ever
        # Of each group what is replied to: deliveries, and None for the ASKING before one.
        orders = [[at for own in places for at in ((None, own) if batch[own].asking else (own,))] for places in shares]
        replies: list[Any] = []
        await link.exchange(commands, sum(map(len, orders)) + len(partitions) + 2 * len(groups) + 1, replies)
        said = iter(replies)
        heard: list[Outcome | None] = [Outcome.UNKNOWN] * len(batch)
        for group, order in zip(groups, orders, strict=True):
            queued = list(islice(said, 1 + len(order) + len(group)))  # or why EXEC will refuse
            done = next(said)
            if isinstance(done, Exception):
                causes = queued[1 : 1 + len(order)]
                done = [cause if isinstance(cause, Exception) else done for cause in causes] + [None] * len(group)
            for at, reply in zip(order, done, strict=False):
                if at is not None:
                    heard[at] = self._refused(batch[at], reply) if isinstance(reply, Exception) else _STORED
            self._ring_new(group, done[len(order) :])
        if not self._flushed(next(said)):
            heard = [Outcome.UNKNOWN if outcome is _STORED else outcome for outcome in heard]
        outcomes[:] = heard

    def _refused(self, delivery: Delivery, error: Exception) -> Outcome | None:
        """What becomes of a delivery that was answered with an error: nothing was stored."""
        if isinstance(error, Redirected):
            self._front.redirect(self, delivery, error)
            return None
        self._log.warning("store_refuses", type(error).__name__, error=describe(error))
        if isinstance(error, redis.exceptions.ClusterDownError):
            self._front.failed(self)
        return Outcome.REFUSED

    def _ring_new(self, partitions: Sequence[int], replies: Iterable[Any]) -> None:
        rung, silent = self._front.bells.heard(partitions, replies, self._log)
        self._metrics.rung.inc(rung)
        if silent:  # waking the ringer for nothing would cost the loop a change of threads per batch
            self._front.ring(silent)

    def _flushed(self, reply: Any) -> bool:
        if isinstance(reply, Exception):
            self._log.warning("flush_refused", type(reply).__name__, setting=SETTING, error=describe(reply))
            return False
        if not reply[0]:
            self._log.warning("flush_late", "WAITAOF", setting=SETTING)
        return bool(reply[0])


def pack(*words: bytes | str) -> bytes:
    """A command as it is sent."""
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # the stub takes one word only
    return command


_MULTI: Final = pack(b"MULTI")
_EXEC: Final = pack(b"EXEC")
