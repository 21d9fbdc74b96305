"""The handler as ``async def``, with a client that sends what one turn of the event loop asks for in one write."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import cast
from urllib.parse import urlsplit

import hiredis

from tests.bench.names import LIST
from worker import Context, Event, handler

_pipes: dict[int, asyncio.Task[Pipe]] = {}


@handler(name="append", on="*")
async def append(event: Event, ctx: Context) -> None:
    pipe = _pipes.get(os.getpid())
    if pipe is None:
        pipe = _pipes[os.getpid()] = asyncio.create_task(_connect())
    await (await pipe).call(b"RPUSH", (LIST + event.team_id).encode(), b"%d" % event.seq)


class Pipe(asyncio.Protocol):
    """Commands of one turn leave together, in one write; answers are matched to them by their order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[object]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def call(self, *words: bytes) -> asyncio.Future[object]:
        answer = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(words))  # type: ignore[arg-type]
        self._waiting.append(answer)
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            waiting = self._waiting.popleft()
            if waiting.done():
                continue
            if isinstance(answer, hiredis.ReplyError):
                waiting.set_exception(RuntimeError(str(answer)))
            else:
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(ConnectionError("the server went away"))
        self._waiting.clear()

    def _send(self) -> None:
        assert self._transport is not None
        unsent, self._unsent = self._unsent, []
        self._transport.write(b"".join(unsent))


async def _connect() -> Pipe:
    server = urlsplit(os.environ["HANDOFF_REDIS_URL"])
    assert server.hostname is not None
    _, pipe = await asyncio.get_running_loop().create_connection(Pipe, server.hostname, server.port or 6379)
    return pipe
