"""A TCP proxy that breaks connections as networks do, for tests: in a thread of the test's own process.

    client ══▶ proxy ══▶ server

    ``cut``              every live connection is reset at both ends, as by CLIENT KILL or a restarted load balancer
    ``black_hole_live``  nothing passes any more on the connections there are, and nobody is told: half-open, as after a
                         firewall has forgotten them. New ones work. Neither end hears of the other's end
    ``black_hole_all``   new ones too: they are accepted, and lead nowhere
    ``refuse``           all are reset, new ones as soon as they come
    ``delay(seconds)``   every chunk, either way, comes so much later
    ``heal``             new connections work again; one that fell into a hole stays there
    ``bury``             those that fell into a hole are reset at both ends

A server that is away is passed on as a reset. What a method does is done when it returns.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

CHUNK = 65536  # bytes


class _Mode(Enum):
    FORWARD = auto()
    HOLE = auto()
    REFUSE = auto()


@dataclass(eq=False)
class _Link:
    """A client's connection, and ours to the server that goes with it. ``hole``: it leads nowhere any more."""

    hole: bool
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards ``127.0.0.1:port`` to a server. A context manager: leaving it ends every connection."""

    def __init__(self, server_port: int, server_host: str = "127.0.0.1") -> None:
        self._server = (server_host, server_port)
        self._mode = _Mode.FORWARD
        self._delay = 0.0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxy")
        self._thread.start()
        self._listener = self._do(lambda: asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024))
        self.port: int = self._listener.sockets[0].getsockname()[1]

    @classmethod
    def of(cls, url: str) -> Self:
        """In front of the server that ``url`` names."""
        parts = urlsplit(url)
        assert parts.port is not None
        return cls(parts.port, parts.hostname or "127.0.0.1")

    def url(self, url: str) -> str:
        """The same URL, by way of this proxy."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}" if user else f"127.0.0.1:{self.port}"))

    @property
    def connections(self) -> int:
        """How many live connections work."""
        return self._do(self._count)

    def cut(self) -> None:
        self._do(self._cut)

    def black_hole_live(self) -> None:
        self._do(self._fall)

    def black_hole_all(self) -> None:
        self._do(self._fall, _Mode.HOLE)

    def refuse(self) -> None:
        self._do(self._cut, _Mode.REFUSE)

    def heal(self) -> None:
        self._do(self._set, _Mode.FORWARD)
        self.delay(0)

    def bury(self) -> None:
        self._do(self._bury)

    def delay(self, seconds: float) -> None:
        self._delay = seconds

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, what: Callable[..., Any], *args: object) -> Any:
        """Call a coroutine function in the loop's thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(what(*args), self._loop).result()

    async def _count(self) -> int:
        return sum(not link.hole for link in self._links)

    async def _set(self, mode: _Mode) -> None:
        self._mode = mode

    async def _cut(self, mode: _Mode | None = None) -> None:
        self._mode = mode or self._mode
        for link in list(self._links):
            link.abort()

    async def _bury(self) -> None:
        for link in list(self._links):
            if link.hole:
                link.abort()

    async def _fall(self, mode: _Mode | None = None) -> None:
        self._mode = mode or self._mode
        for link in self._links:
            link.hole = True

    async def _end(self) -> None:
        self._listener.close()
        await self._cut(_Mode.REFUSE)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = _Link(self._mode is _Mode.HOLE, [writer])
        self._links.add(link)
        try:
            if self._mode is not _Mode.REFUSE:
                back, forth = await asyncio.open_connection(*self._server)
                link.writers.append(forth)
                await asyncio.gather(self._pump(link, reader, forth), self._pump(link, back, writer))
        except (OSError, asyncio.CancelledError):
            pass  # reset, or the server is away
        finally:
            link.abort()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _pump(self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                if not link.hole:
                    sink.write(data)
                    await sink.drain()
            if not link.hole:
                with suppress(OSError):
                    sink.write_eof()
        except OSError:
            if not link.hole:
                raise
