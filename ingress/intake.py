"""Group commit: requests that arrive together are stored together, and each learns what became of its own XADD.

    submit ──▶ waiting ──(next turn of the loop)──▶ one batch, one round trip ──▶ each future: STORED or why not
                  ▲                                        │
                  └── what arrives while a batch is under way collects here

One batch is under way at a time: two or four were measured, and made half as much, for the batches got smaller.
A batch is one write to the socket: an XADD per delivery and, after them, a ``SET bell NX PX`` per partition touched; a
bell that this sets was not out yet and is handed to the ringer. The deliveries of a batch are no transaction: if the
connection ends half way, those whose reply had come are stored, the others are told that it is not known, answer 503
and come back as duplicates. Every delivery is told within ``PATIENCE`` seconds, whatever Redis does.

redis-py makes, checks and closes the connections. Its pipeline is not used: packing and parsing in it takes longer than
all else that a request costs, so the commands are packed by hiredis as they arrive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import StrEnum
from time import perf_counter
from typing import Final, NamedTuple

import hiredis
import redis.asyncio
import redis.exceptions

from ingress.metrics import Metrics
from ingress.sparing import SparingLog
from worker.doorbell import BELL_LIFE_MS
from worker.store.client import describe
from worker.store.keys import PartitionKeys

PATIENCE: Final = 1.5  # seconds from submit to outcome at most; the provider must have its answer within two
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


class _Delivery(NamedTuple):
    outcome: asyncio.Future[Outcome]
    partition: int
    command: bytes
    size: int
    deadline: float  # of the loop's clock


class Intake:
    """Stores deliveries through ``client``, for one event loop. Its connections carry no time-out of their own.

    ``ring`` is called with the partitions whose bell was not out yet.
    """

    def __init__(self, client: redis.asyncio.Redis, metrics: Metrics, ring: Callable[[Iterable[int]], None]) -> None:
        self._pool = client.connection_pool
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
        partitions = list({delivery.partition for delivery in batch})
        told = 0
        stored = self.stored
        stored_bytes = self.stored_bytes
        try:
            # The oldest delivery's patience is the batch's. What has waited that long fails without being sent.
            async with asyncio.timeout_at(batch[0].deadline):
                connection = await self._pool.get_connection()
                try:
                    commands = [delivery.command for delivery in batch]
                    commands += [self._bells[partition] for partition in partitions]
                    await connection.send_packed_command(commands, check_health=False)
                    for delivery in batch:
                        error = await self._xadd_reply(connection)
                        told += 1
                        if error is None:
                            self.stored += 1
                            self.stored_bytes += delivery.size
                            self._tell(delivery, Outcome.STORED)
                        else:
                            self._tell(delivery, Outcome.REFUSED)
                    silent = [partition for partition in partitions if await self._bell_reply(connection)]
                    if silent:  # waking the ringer for nothing would cost the loop a change of threads per batch
                        self._ring(silent)
                except BaseException:
                    # Replies may be on their way still; whoever used the connection next would take them for its own.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    await self._pool.release(connection)
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            self._log.warning("store_unavailable", type(error).__name__, error=describe(error))
        finally:
            for delivery in batch[told:]:
                self._tell(delivery, Outcome.UNKNOWN)
            self._metrics.accepted.inc(self.stored - stored)
            self._metrics.bytes.inc(self.stored_bytes - stored_bytes)
            self._metrics.batch_size.observe(len(batch))
            self._metrics.commit_seconds.observe(perf_counter() - started)

    async def _xadd_reply(self, connection: redis.asyncio.Connection) -> redis.exceptions.ResponseError | None:
        try:
            await connection.read_response()
        except redis.exceptions.ResponseError as error:
            self._log.warning("store_refuses", type(error).__name__, error=describe(error))
            return error
        return None

    async def _bell_reply(self, connection: redis.asyncio.Connection) -> bool:
        try:
            return await connection.read_response() is not None
        except redis.exceptions.ResponseError:
            return False

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
