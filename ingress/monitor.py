"""Keeps an eye on the state server, once a second: its partitions, whether it takes writes, how much waits.

    partitions unknown ──fix_partitions──▶ ready ──no answer, or writes refused──▶ not ready ──a good look──▶ ready
            └────────────────────────────────┴── another number of partitions ──▶ ``wrong_settings``: the process ends
            └── no way to know that the disk has it, where HANDOFF_DURABILITY asks for that ──────────▶

Nothing here is in a request's path: requests read ``partitions`` and ``closed``, and learn of an outage from their own
XADD. What this process has taken in since its last look counts in at once, so one ingress never goes over a bound by
more than what the look itself missed; several can go over it by what the others take in between two looks.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import redis.exceptions
import structlog

from ingress.intake import Intake
from ingress.workers import Workers
from worker.address import Kind
from worker.core.backpressure import Bounds, Gate, Load, Reason, bounds_of, decide, reached
from worker.core.backpressure import describe as in_words
from worker.errors import ConfigurationError, StoreError, StoreUnavailable
from worker.settings import Settings
from worker.store import durability, keys
from worker.store.backlog import Measured, Scale, measure
from worker.store.client import connect, describe, unavailable_as_error
from worker.store.cluster import AWAY
from worker.store.installation import fix_partitions

INTERVAL: Final = 1.0  # seconds between looks
PATIENCE: Final = 1.5  # seconds for one command of a look
FRESH: Final = 5.0  # seconds that a good look counts for
EVERYWHERE: Final = 64  # partitions, of which every node of a cluster will have one
REMIND: Final = 60.0  # seconds between log lines while the server is away

log = structlog.get_logger(__name__)


class Monitor:
    """``run`` it as a task of the intake's loop."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._client = connect(settings, timeout=PATIENCE)
        self._bells: list[str] = []  # keys of the installation's, on every server
        self._scale = Scale([])
        self._remember(Measured(0, 0, 0, 0), (0, 0))
        self._gate = Gate()
        self._told: frozenset[str] = frozenset()
        self._last_good: float | None = None
        self._trouble: str | None = "the state server has not been asked yet"
        self._remind_at = 0.0
        self._flushing = settings.durability == "fsync"
        self.undurable: str | None = None  # why the disk could not confirm, where it has to
        self.partitions: int | None = None
        self.workers = Workers(self._client, settings.prefix)
        self.wrong_settings: asyncio.Future[ConfigurationError] = self._loop.create_future()

    @property
    def load(self) -> Load:
        """What was measured, and what this process has taken in since or is about to store."""
        measured, intake = self._measured, self._intake
        since = intake.stored_bytes + intake.unanswered_bytes - self._before[1]
        return Load(
            measured.events + intake.stored + intake.unanswered - self._before[0],
            measured.size + since,
            measured.memory + since,
        )

    @property
    def bounds(self) -> Bounds:
        settings = self._settings
        return bounds_of(
            settings.max_backlog, settings.max_backlog_bytes, settings.max_memory, self._measured.max_memory
        )

    @property
    def closed(self) -> Reason | None:
        """Why nothing more is taken in now. It closes the moment that a bound is reached, and opens at a look."""
        intake = self._intake
        if self._gate.reason is None and (
            intake.stored + intake.unanswered >= self._most
            or intake.stored_bytes + intake.unanswered_bytes >= self._most_bytes
        ):
            self._set(Gate(reached(self.load, self.bounds)))
        return self._gate.reason

    @property
    def trouble(self) -> str | None:
        """Why a delivery would not be stored now, in one line; None when all is well."""
        if self._trouble is None and self._last_good is not None and self._loop.time() - self._last_good > FRESH:
            return "the state server has not answered lately"
        return self._trouble

    async def run(self) -> None:
        """Look for ever, until cancelled or ``wrong_settings`` is set."""
        try:
            while not self.wrong_settings.done():
                await self.look()
                await asyncio.sleep(INTERVAL)
        finally:
            self._client.close()

    async def look(self) -> None:
        """One look. Never raises; what is wrong ends up in ``trouble`` or ``wrong_settings``."""
        try:
            if self.partitions is None:
                await self._find_partitions()
            await self._count()
        except ConfigurationError as error:
            self.wrong_settings.set_result(error)
        except (StoreError, redis.exceptions.RedisError) as error:
            self._bad(describe(error))
        else:
            self._good()
            await self.workers.look()

    async def _find_partitions(self) -> None:
        partitions = await asyncio.to_thread(_settle, self._settings)
        made = [keys.PartitionKeys(self._settings.prefix, partition) for partition in range(partitions)]
        clustered = self._settings.address.kind is Kind.CLUSTER
        self._bells = [each.bell for each in made[: EVERYWHERE if clustered else 1]]
        self._scale = Scale(made)
        await self._intake.open(self._settings.prefix, partitions)
        self.partitions = partitions

    async def _count(self) -> None:
        before = self._intake.stored, self._intake.stored_bytes
        # In a thread, with the client that everybody else uses: it knows Sentinels and clusters.
        lack, stored, measured = await asyncio.to_thread(self._ask)
        # The server was changed, or is another one now: nothing is answered 202 until the disk can be asked again.
        self.undurable = None if lack is None else str(durability.error_of(lack))
        if self.undurable is not None:
            raise StoreUnavailable(self.undurable)
        if stored is not None and stored != self.partitions:
            await self._partitions_changed()
        self._remember(measured, before)
        self._set(decide(self._gate, self.load, self.bounds, self._loop.time()))
        if measured.refused != self._told:
            self._told = measured.refused
            log.warning("not_measured", refused=sorted(measured.refused), setting="HANDOFF_REDIS_URL")

    def _ask(self) -> tuple[durability.Lack | None, int | None, Measured]:
        """Why the disk can't confirm, where it has to; how many partitions the server says there are; and what waits.
        The second is None while that can't be asked: another node of the cluster takes in what is its own. Raises
        ``StoreUnavailable``; blocks."""
        lack = durability.lacking(self._client) if self._flushing else None
        with unavailable_as_error():
            pipe = self._client.pipeline(transaction=False)
            # A server refuses this write whenever it would refuse an XADD, and an empty value changes nothing: no key
            # is made, none is touched (redis.io/commands/setrange).
            for bell in self._bells:
                pipe.setrange(bell, 0, "")
            pipe.hget(keys.config(self._settings.prefix), "partitions")
            *writes, stored = pipe.execute(raise_on_error=False)
            errors = [answer for answer in writes if isinstance(answer, Exception)]
            if len(errors) == len(writes):
                raise errors[0]
            if isinstance(stored, Exception):
                if not isinstance(stored, AWAY):
                    raise stored
                return lack, None, measure(self._client, self._scale)
            return lack, int(stored or 0), measure(self._client, self._scale)

    def _remember(self, measured: Measured, before: tuple[int, int]) -> None:
        """Keep what was measured, and work out how far the intake's counters may go until a bound is reached: every
        request compares them."""
        self._measured = measured
        self._before = before  # what the intake had stored when the look began: deliveries, bytes
        bounds = self.bounds
        self._most = before[0] + bounds.events - measured.events if bounds.events else sys.maxsize
        rooms = [bounds.size - measured.size] if bounds.size else []
        rooms += [bounds.memory - measured.memory] if bounds.memory else []
        self._most_bytes = before[1] + min(rooms, default=sys.maxsize)

    def _set(self, gate: Gate) -> None:
        was, self._gate = self._gate.reason, gate
        if gate.reason is not None and gate.reason != was:
            why = in_words(gate.reason, self.load, self.bounds)
            log.warning("closed", reason=gate.reason.value, why=why, answer="503 until there is room")
        elif gate.reason is None and was is not None:
            log.info("opened", reason=was.value, why=in_words(was, self.load, self.bounds))

    async def _partitions_changed(self) -> None:
        """The server was emptied, or is another one now: it may have other partitions than we fill."""
        partitions = await asyncio.to_thread(_settle, self._settings)
        if partitions != self.partitions:
            raise ConfigurationError(
                "HANDOFF_REDIS_URL",
                f"this server has {partitions} partitions, the one at the start had {self.partitions}",
                "start again to use it as it is",
            )

    def _good(self) -> None:
        if self._trouble is not None:
            log.info("store_ready", partitions=self.partitions)
        self._trouble = None
        self._last_good = self._loop.time()

    def _bad(self, trouble: str) -> None:
        now = self._loop.time()
        if self._trouble is None or now >= self._remind_at:
            log.error("store_unavailable", setting="HANDOFF_REDIS_URL", error=trouble, answer="503 until it is back")
            self._remind_at = now + REMIND
        self._trouble = trouble


def _settle(settings: Settings) -> int:
    """What the first look, and one at another server, decides. Blocks for a few seconds at most: for a thread."""
    with connect(settings, timeout=PATIENCE) as client:
        if settings.durability == "fsync":
            durability.check(client)
        return fix_partitions(client, settings)
