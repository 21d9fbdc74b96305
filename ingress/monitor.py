"""Keeps an eye on the state server, once a second: its partitions, whether it takes writes, how much waits.

    partitions unknown ──fix_partitions──▶ ready ──no answer, or writes refused──▶ not ready ──a good look──▶ ready
            └────────────────────────────────┴── another number of partitions ──▶ ``wrong_settings``: the process ends

Nothing here is in a request's path: requests read ``partitions`` and ``backlog_full``, and learn of an outage from
their own XADD.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

import redis.exceptions
import structlog

from ingress.intake import Intake
from worker.errors import ConfigurationError, StoreError
from worker.settings import Settings
from worker.store import keys
from worker.store.client import connect, connect_async, describe, unavailable_as_error
from worker.store.installation import fix_partitions

INTERVAL: Final = 1.0  # seconds between looks
PATIENCE: Final = 1.5  # seconds for one command of a look
FRESH: Final = 5.0  # seconds that a good look counts for
REMIND: Final = 60.0  # seconds between log lines while the server is away
SLICE: Final = 256  # XLENs sent at once, so that thousands of partitions don't hold the loop up

log = structlog.get_logger(__name__)


class Monitor:
    """``run`` it as a task of the intake's loop."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._client = connect_async(settings, timeout=PATIENCE, connections=1)
        self._keys: list[keys.PartitionKeys] = []
        self._counted = 0  # what waited at the last look
        self._stored_before = 0  # what the intake had stored when that look began
        self._last_good: float | None = None
        self._trouble: str | None = "the state server has not been asked yet"
        self._remind_at = 0.0
        self.partitions: int | None = None
        self.wrong_settings: asyncio.Future[ConfigurationError] = self._loop.create_future()

    @property
    def backlog(self) -> int:
        """Accepted deliveries that wait: those counted, and those that this process has stored since."""
        return self._counted + self._intake.stored - self._stored_before

    @property
    def backlog_full(self) -> bool:
        return 0 < self._settings.max_backlog <= self.backlog

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
            await self._client.aclose()

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

    async def _find_partitions(self) -> None:
        partitions = await asyncio.to_thread(_fix_partitions, self._settings)
        self._keys = [keys.PartitionKeys(self._settings.prefix, partition) for partition in range(partitions)]
        self._intake.open(self._settings.prefix, partitions)
        self.partitions = partitions

    async def _count(self) -> None:
        stored_before = self._intake.stored
        waiting = 0
        with unavailable_as_error():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hget(keys.config(self._settings.prefix), "partitions")
                # The server refuses this write whenever it would refuse an XADD, and an empty value changes nothing:
                # no key is made, none is touched (redis.io/commands/setrange).
                pipeline.setrange(self._keys[0].bell, 0, "")
                stored, _ = await pipeline.execute()
                each = iter(self._keys)
                while some := list(islice(each, SLICE)):
                    for key in some:
                        pipeline.xlen(key.inbox)
                    waiting += sum(await pipeline.execute())
        if stored != str(self.partitions).encode():
            await self._partitions_changed()
        self._counted, self._stored_before = waiting, stored_before

    async def _partitions_changed(self) -> None:
        """The server was emptied, or is another one now: it may have other partitions than we fill."""
        partitions = await asyncio.to_thread(_fix_partitions, self._settings)
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


def _fix_partitions(settings: Settings) -> int:
    """Blocks for a few seconds at most: for a thread."""
    with connect(settings, timeout=PATIENCE) as client:
        return fix_partitions(client, settings)
