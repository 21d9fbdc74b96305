"""Reads bodies within their limits: of one body, of the time for it, and of all that are on their way together.

Nobody has to have signed anything to begin a body, so no stranger must be able to fill the memory with halves of them:

- up to ``WHOLE`` bytes, as nearly every delivery has: read in one go, which is fast; what is kept of them is bounded
  by the number of connections;
- larger ones, and those that do not say how large they are: read in parts and counted. When more than ``PARTS_BYTES``
  of them are here, the one that has taken the longest is given up: who sends at all takes less time than who waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Final, Protocol

PATIENCE: Final = 15.0  # seconds for a body to arrive
LOOKS: Final = 8  # at those on their way, within that
DISCARD: Final = 8 * 1024 * 1024  # bytes of an oversized body read away, so that the sender gets to see its answer
WHOLE: Final = 32 * 1024
PARTS_BYTES: Final = 64 * 1024 * 1024


class Headers(Protocol):
    def get(self, key: str, default: None = None) -> str | None: ...


class Arriving(Protocol):
    """A whole body that is on its way."""

    def __await__(self) -> Generator[Any, None, bytes]: ...
    def cancel(self) -> object: ...


class Incoming(Protocol):
    """What is used of RSGI's HTTP protocol to read: the body, whole or in parts."""

    def __call__(self) -> Arriving: ...
    def __aiter__(self) -> Incoming: ...
    async def __anext__(self) -> bytes: ...


class TooLarge(Exception):
    """The body is over the limit."""


class Bodies:
    """Reads the bodies of one event loop. ``limit`` is the most bytes that one may have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._sizes: dict[asyncio.Task[object], int] = {}  # bytes here of those read in parts, oldest first
        self._together = 0
        self._arriving: dict[Arriving, float] = {}  # whole ones on their way, and since when, of the loop's clock
        self._looking = False

    async def read(self, headers: Headers, incoming: Incoming) -> bytes:
        """The whole body. Raises ``TooLarge``, ``TimeoutError`` (too slow, or given up for others) or ``RuntimeError``
        (RSGIProtocolClosed: the connection broke)."""
        length = headers.get("content-length")
        size = None if length is None else int(length)  # the server has checked it, and keeps the body to it
        if size is None and headers.get("transfer-encoding") is None:
            return b""
        if (
            size is not None
            and size > self._limit
            and (size > self._limit + DISCARD or headers.get("expect") is not None)
        ):
            raise TooLarge
        if size is not None and size <= WHOLE and size <= self._limit:
            return await self._whole(incoming)
        task = asyncio.current_task()
        assert task is not None
        alarm = self._loop.call_later(PATIENCE, task.cancel)
        try:
            return await self._in_parts(incoming, task)
        except asyncio.CancelledError:
            task.uncancel()
            raise TimeoutError from None
        finally:
            alarm.cancel()

    async def _whole(self, incoming: Incoming) -> bytes:
        # A timer for each would be set and taken back with every request: one looks after all of them.
        arriving = incoming()
        self._arriving[arriving] = self._loop.time()
        if not self._looking:
            self._looking = True
            self._loop.call_later(PATIENCE / LOOKS, self._look)
        try:
            return await arriving
        except asyncio.CancelledError:
            raise TimeoutError from None
        finally:
            del self._arriving[arriving]

    def _look(self) -> None:
        """Give up whole bodies that have taken too long, up to an eighth longer than they may."""
        since = self._loop.time() - PATIENCE
        for arriving in [one for one, began in self._arriving.items() if began <= since]:
            arriving.cancel()
        self._looking = bool(self._arriving)
        if self._looking:
            self._loop.call_later(PATIENCE / LOOKS, self._look)

    async def _in_parts(self, incoming: Incoming, task: asyncio.Task[object]) -> bytes:
        # A body that breaks off ends here as if it were whole: it is refused then, for its signature isn't right.
        parts: list[bytes] = []
        size = 0
        self._sizes[task] = 0
        try:
            async for part in incoming:
                size += len(part)
                if size <= self._limit:
                    parts.append(part)
                    self._count(task, len(part))
                elif size <= self._limit + DISCARD:
                    parts.clear()
                    self._count(task, -self._sizes[task])
                else:
                    break
            if size > self._limit:
                raise TooLarge
            return b"".join(parts)
        finally:
            self._together -= self._sizes.pop(task, 0)

    def _count(self, task: asyncio.Task[object], more: int) -> None:
        if task not in self._sizes:  # given up, and not told yet
            return
        self._sizes[task] += more
        self._together += more
        while self._together > PARTS_BYTES and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self._together -= self._sizes.pop(oldest)
            if oldest is task:
                raise TimeoutError
            oldest.cancel()
