"""Group commit: requests that arrive together are stored together, and each learns what became of its own XADD.

    submit ──▶ waiting ──(next turn of the loop)──▶ one batch, one round trip ──▶ each future: STORED or why not
                  ▲                                        │
                  └── what arrives while a batch is under way collects here

One batch is under way at a time: two or four were measured, and made half as much, for the batches got smaller. It is
the same where each waits for a disk: two at a time, on a disk of 4 ms, made three quarters.
A batch is one write to the socket: an XADD per delivery and, after them, a ``SET bell NX PX`` per partition touched; a
bell that this sets was not out yet and is handed to the ringer. The deliveries of a batch are no transaction: if the
connection ends half way, those whose reply had come are stored, the others are told that it is not known, answer 503
and come back as duplicates. Every delivery is told within ``PATIENCE`` seconds, whatever Redis does.

With ``flush`` a batch is stored when the server's disk has it: the same commands between MULTI and EXEC, then a
``WAITAOF 1 0`` (store/durability.py says when that is true). When the disk takes too long, or the server will not say,
the batch is not known. The transaction is for the disk: a server reads 16 KB of a connection at a time, executes what
it has read and calls fsync, so once for every ten deliveries; of a transaction it executes nothing before it has all.

redis-py makes, checks and closes the connections. Its pipeline is not used: packing and parsing in it takes longer than
all else that a request costs, so the commands are packed by hiredis as they arrive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from time import perf_counter
from typing import Any, Final, NamedTuple

import hiredis
import redis.asyncio
import redis.exceptions
from redis.asyncio.connection import AbstractConnection as Connection

from ingress.metrics import Metrics
from ingress.sparing import SparingLog
from worker.doorbell import BELL_LIFE_MS
from worker.store.client import describe
from worker.store.durability import SETTING
from worker.store.keys import PartitionKeys

PATIENCE: Final = 1.5  # seconds from submit to outcome at most; the provider must have its answer within two
FLUSH_MARGIN: Final = 0.05  # seconds of that for the reply, where the disk takes all the others
BATCH_DELIVERIES: Final = 512
BATCH_BYTES: Final = 4 * 1024 * 1024
WAITING_DELIVERIES: Final = 8192  # over this many not yet answered, the next are refused at once
WAITING_BYTES: Final = 64 * 1024 * 1024


class Outcome(StrEnum):
    """What became of one delivery. All but ``STORED`` are answered 503."""

    STORED = "stored"  # Redis has confirmed it
    REFUSED = "refused"  # Redis answered with an error: read-only, out of memory, ...; nothing was stored
    UNKNOWN = "unknown"  # no reply in time, or no connection: stored or not
    OVERLOADED = "overloaded"  # too many are waiting already; not tried


_STORED: Final = Outcome.STORED


class _Delivery(NamedTuple):
    outcome: asyncio.Future[Outcome]
    partition: int
    command: bytes
    size: int
    deadline: float  # of the loop's clock


class Intake:
    """Stores deliveries through ``client``, for one event loop. Its connections carry no time-out of their own.

    ``ring`` is called with the partitions whose bell was not out yet. ``flush``: see above.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        metrics: Metrics,
        ring: Callable[[Iterable[int]], None],
        *,
        flush: bool = False,
    ) -> None:
        self._pool = client.connection_pool
        self._flush = flush
        self._metrics = metrics
        self._ring = ring
        self._log = SparingLog()
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Delivery] = deque()
        self._commit_due = False
        self._commit: asyncio.Task[None] | None = None  # under way; kept here, or it might be collected
        self._inboxes: tuple[bytes, ...] = ()
        self._bells: tuple[bytes, ...] = ()
        self.stored = 0  # since the start
        self.stored_bytes = 0
        self.unanswered = 0  # submitted, and not known yet what becomes of them
        self.unanswered_bytes = 0

    def open(self, prefix: str, partitions: int) -> None:
        """Say what the partitions are; needed before the first ``submit``."""
        keys = [PartitionKeys(prefix, partition) for partition in range(partitions)]
        self._inboxes = tuple(key.inbox.encode() for key in keys)
        self._bells = tuple(_bell(key.bell) for key in keys)

    def submit(self, partition: int, body: bytes, url_team: str | None) -> asyncio.Future[Outcome]:
        """Have ``body`` appended to the partition's inbox. The future never fails."""
        outcome: asyncio.Future[Outcome] = self._loop.create_future()
        size = len(body)
        if self.unanswered >= WAITING_DELIVERIES or (
            self.unanswered_bytes and self.unanswered_bytes + size > WAITING_BYTES
        ):
            outcome.set_result(Outcome.OVERLOADED)
            return outcome
        team = () if url_team is None else (b"t", url_team.encode("utf-8", "surrogatepass"))
        command = _pack(b"XADD", self._inboxes[partition], b"*", b"b", body, *team)
        self._waiting.append(_Delivery(outcome, partition, command, size, self._loop.time() + PATIENCE))
        self.unanswered += 1
        self.unanswered_bytes += size
        if not self._commit_due and self._commit is None:
            self._commit_due = True
            self._loop.call_soon(self._begin_commit)
        return outcome

    async def drain(self) -> None:
        """Wait until everything submitted has its outcome."""
        while self._waiting or self._commit is not None:
            if self._commit is None:
                self._begin_commit()
            else:
                await asyncio.wait([self._commit])

    def _begin_commit(self) -> None:
        self._commit_due = False
        if self._waiting and self._commit is None:
            self._commit = self._loop.create_task(self._store(self._next_batch()))
            self._commit.add_done_callback(self._end_commit)

    def _end_commit(self, _commit: asyncio.Task[None]) -> None:
        self._commit = None
        self._begin_commit()

    def _next_batch(self) -> list[_Delivery]:
        batch: list[_Delivery] = []
        size = 0
        while self._waiting and len(batch) < BATCH_DELIVERIES and (not batch or size < BATCH_BYTES):
            batch.append(delivery := self._waiting.popleft())
            size += delivery.size
        return batch

    async def _store(self, batch: list[_Delivery]) -> None:
        started = perf_counter()
        outcomes = [Outcome.UNKNOWN] * len(batch)
        try:
            # The oldest delivery's patience is the batch's. What has waited that long fails without being sent.
            async with asyncio.timeout_at(batch[0].deadline):
                connection = await self._pool.get_connection()
                try:
                    await (self._send_and_flush if self._flush else self._send)(connection, batch, outcomes)
                except BaseException:
                    # Replies may be on their way still; whoever used the connection next would take them for its own.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    await self._pool.release(connection)
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            self._log.warning("store_unavailable", type(error).__name__, error=describe(error))
        finally:
            sizes = [delivery.size for delivery, outcome in zip(batch, outcomes, strict=True) if outcome is _STORED]
            self.stored += len(sizes)
            self.stored_bytes += sum(sizes)
            for delivery, outcome in zip(batch, outcomes, strict=True):
                self._tell(delivery, outcome)
            self._metrics.accepted.inc(len(sizes))
            self._metrics.bytes.inc(sum(sizes))
            self._metrics.batch_size.observe(len(batch))
            self._metrics.commit_seconds.observe(perf_counter() - started)

    async def _send(self, connection: Connection, batch: list[_Delivery], outcomes: list[Outcome]) -> None:
        """Send the batch, and note in ``outcomes`` what each reply says, as it comes."""
        partitions, commands = self._commands(batch)
        await connection.send_packed_command(commands, check_health=False)
        for place in range(len(batch)):
            outcomes[place] = self._outcome(await _reply(connection))
        self._ring_new(partitions, [await _reply(connection) for _ in partitions])

    async def _send_and_flush(self, connection: Connection, batch: list[_Delivery], outcomes: list[Outcome]) -> None:
        """The same as a transaction, whose outcomes are noted when the disk has answered."""
        partitions, commands = self._commands(batch)
        left = batch[0].deadline - self._loop.time() - FLUSH_MARGIN
        wait = _pack(b"WAITAOF", b"1", b"0", str(max(1, int(left * 1000))))  # 0 would be for ever
        await connection.send_packed_command([_MULTI, *commands, _EXEC, wait], check_health=False)
        for _ in (_MULTI, *commands):
            await _reply(connection)  # OK, and then QUEUED, or why EXEC will refuse
        replies = await _reply(connection)
        if isinstance(replies, Exception):
            replies = [replies] * len(commands)
        heard = [self._outcome(reply) for reply in replies[: len(batch)]]
        self._ring_new(partitions, replies[len(batch) :])
        if not self._flushed(await _reply(connection)):
            heard = [Outcome.UNKNOWN if outcome is _STORED else outcome for outcome in heard]
        outcomes[:] = heard

    def _commands(self, batch: list[_Delivery]) -> tuple[list[int], list[bytes]]:
        partitions = list({delivery.partition for delivery in batch})
        commands = [delivery.command for delivery in batch]
        return partitions, commands + [self._bells[partition] for partition in partitions]

    def _outcome(self, reply: Any) -> Outcome:
        if not isinstance(reply, Exception):
            return _STORED
        self._log.warning("store_refuses", type(reply).__name__, error=describe(reply))
        return Outcome.REFUSED

    def _ring_new(self, partitions: list[int], replies: Iterable[Any]) -> None:
        silent = [partition for partition, reply in zip(partitions, replies, strict=True) if reply == b"OK"]
        if silent:  # waking the ringer for nothing would cost the loop a change of threads per batch
            self._ring(silent)

    def _flushed(self, reply: Any) -> bool:
        if isinstance(reply, Exception):
            self._log.warning("flush_refused", type(reply).__name__, setting=SETTING, error=describe(reply))
            return False
        if not reply[0]:
            self._log.warning("flush_late", "WAITAOF", setting=SETTING)
        return bool(reply[0])

    def _tell(self, delivery: _Delivery, outcome: Outcome) -> None:
        self.unanswered -= 1
        self.unanswered_bytes -= delivery.size
        if not delivery.outcome.done():
            delivery.outcome.set_result(outcome)


def _bell(key: str) -> bytes:
    return _pack(b"SET", key, b"1", b"NX", b"PX", str(BELL_LIFE_MS))


def _pack(*words: bytes | str) -> bytes:
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # the stub takes one word only
    return command


async def _reply(connection: Connection) -> Any:
    """The next reply; an error reply as it is."""
    try:
        return await connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error


_MULTI: Final = _pack(b"MULTI")
_EXEC: Final = _pack(b"EXEC")
