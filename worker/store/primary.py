"""Connections to the primary that Sentinels name, which are given up when they name another one.

A connection that works says nothing of that. After a fail-over that somebody asked for (SENTINEL FAILOVER), and on the
wrong side of a cut network, the old primary goes on accepting; the Sentinels make a replica of it only when it has
called itself a primary for eight seconds more (sentinel.c, SENTINEL_PUBLISH_PERIOD * 4), and all of those are lost.

    in use ──every LOOK_EVERY, ask a Sentinel──▶ the same: go on    another: connect to that, before the next command
                                            └──▶ no answer: go on with what is known, and ask again after BLIND
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import redis.exceptions
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.sentinel import SentinelConnectionPool

LOOK_EVERY: Final = 0.5  # seconds; a small question to one Sentinel
BLIND: Final = 5.0  # seconds; Sentinels that are away must not slow down work that needs none

log = logging.getLogger("handoff.sentinels")  # the command line sets up no logging, and has its output to itself


class Sight:
    """Says once that no Sentinel names a primary, and once that one does again: work goes on meanwhile, but nobody
    would see a fail-over."""

    def __init__(self) -> None:
        self._lost = False

    def note(self, *, lost: bool) -> None:
        if lost and not self._lost:
            log.warning("sentinels_silent")
        elif self._lost and not lost:
            log.warning("sentinels_answer_again")
        self._lost = lost


class PrimaryPool(SentinelConnectionPool):
    """For any threads. Whoever takes a connection when it is time to look waits for the answer."""

    _look_at = 0.0  # monotonic seconds

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._sight = Sight()

    def get_connection(self, *_args: Any, **_options: Any) -> Any:
        if time.monotonic() >= self._look_at:
            self._look()
        connection = super().get_connection()
        if not self.owns_connection(connection):  # type: ignore[no-untyped-call]
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        return connection

    def _look(self) -> None:
        self._look_at = time.monotonic() + BLIND  # nobody else has to ask meanwhile
        try:
            self.get_master_address()  # type: ignore[no-untyped-call]  # the pool remembers it
        except (redis.exceptions.RedisError, OSError):
            self._sight.note(lost=True)
            return
        self._sight.note(lost=False)
        self._look_at = time.monotonic() + LOOK_EVERY


class AsyncPrimaryPool(AsyncSentinelConnectionPool):
    """For one event loop. Nobody waits for the answer, and whoever asks touches no connection: redis-py's may not be
    closed by one task while another takes it."""

    _look_at = 0.0  # of the loop's clock
    _looking: asyncio.Task[None] | None = None
    _named: tuple[str, int] | None = None  # what a Sentinel said last

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._sight = Sight()

    async def get_connection(self, *_args: Any, **_options: Any) -> Any:
        if self._looking is None and asyncio.get_running_loop().time() >= self._look_at:
            self._looking = asyncio.create_task(self._look())
        connection = await super().get_connection()  # type: ignore[no-untyped-call]
        if self._named not in (None, (connection.host, connection.port)):
            try:
                await connection.disconnect(nowait=True)
                await connection.connect()
            except BaseException:
                await self.release(connection)
                raise
            self._named = connection.host, connection.port
        return connection

    async def _look(self) -> None:
        wait = BLIND
        try:
            self._named = await self.sentinel_manager.discover_master(self.service_name)
            wait = LOOK_EVERY
            self._sight.note(lost=False)
        except (redis.exceptions.RedisError, OSError):
            self._sight.note(lost=True)
        finally:
            self._looking = None
            self._look_at = asyncio.get_running_loop().time() + wait
