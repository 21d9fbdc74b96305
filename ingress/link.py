"""One connection to a server, without redis-py on the way: a batch of packed commands out, as many replies in.

redis-py made it: it knows TLS, AUTH, time-outs and who is the primary. But its connection awaits each reply by itself,
through a stream reader, and takes longer over that than all else that a delivery costs. So the transport is taken over
(asyncio's ``set_protocol``): hiredis parses whatever comes, and a batch's one future is set by its last reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

import hiredis
import redis.asyncio
import redis.exceptions
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection

HELD: Final = 0.25  # seconds that a connection is used without a word to the pool; half of what it asks Sentinels after
_NOT_YET: Final = object()


class Link(asyncio.Protocol):
    """``connection`` is the pool's; whoever has the link has taken it from there."""

    def __init__(self, connection: AbstractConnection, transport: asyncio.Transport) -> None:
        self.connection = connection
        self._transport = transport
        self._before = transport.get_protocol()  # redis-py's, which waits for the end of the connection when it closes
        self._reader = hiredis.Reader(
            protocolError=redis.exceptions.InvalidResponse,
            replyError=BaseParser.parse_error,
            notEnoughData=_NOT_YET,
        )
        self._replies: list[Any] = []
        self._expected = 0
        self._waiting: asyncio.Future[None] | None = None
        self.usable = True

    @classmethod
    def over(cls, connection: AbstractConnection) -> Link:
        """The link that a connection has, or is given now. It must be connected, with nothing on its way."""
        writer = connection._writer  # noqa: SLF001 - there is no other way to it
        assert writer is not None
        transport = cast("asyncio.Transport", writer.transport)
        had = transport.get_protocol()
        if isinstance(had, cls):
            return had
        link = cls(connection, transport)
        transport.set_protocol(link)
        return link

    async def exchange(self, commands: Iterable[bytes], expected: int, replies: list[Any]) -> None:
        """Send ``commands`` in one go, and add to ``replies`` what the server says to them, errors as they are, until
        there are so many.

        Raises redis-py's ``ConnectionError`` where the connection ends before that; ``replies`` has those that had
        come. Whoever stops waiting has to end the connection.
        """
        if not self.usable:
            raise redis.exceptions.ConnectionError("the connection is closed")
        self._replies, self._expected = replies, expected
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.writelines(commands)
        try:
            await self._waiting
        finally:
            self._waiting = None

    def data_received(self, data: bytes) -> None:
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOT_YET:
                if not isinstance(reply, hiredis.PushNotification):
                    replies.append(reply)
        except redis.exceptions.InvalidResponse as error:
            self._fail(error)
            return
        waiting = self._waiting
        if waiting is None:
            if replies and len(replies) > self._expected:
                self._fail(redis.exceptions.InvalidResponse("a reply to nothing"))
        elif len(replies) >= self._expected and not waiting.done():
            waiting.set_result(None)

    def eof_received(self) -> None:
        self.usable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail(redis.exceptions.ConnectionError("Connection closed by server."))
        self._before.connection_lost(exc)

    def _fail(self, error: Exception) -> None:
        if self.usable:
            self.usable = False
            self._transport.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


class Links:
    """The one connection of a pool that is in use: kept from batch to batch, for taking it takes its time too."""

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._until = 0.0

    async def take(self) -> Link:
        """The link; every ``HELD`` seconds the pool is asked again, which knows when there is another primary."""
        link = self._link
        if link is not None:
            if link.usable and self._loop.time() < self._until:
                return link
            await self.let_go(broken=not link.usable)
        connection = await self._pool.get_connection()
        try:
            link = Link.over(connection)
        except BaseException:
            await self._pool.release(connection)
            raise
        self._link = link
        self._until = self._loop.time() + HELD
        return link

    async def let_go(self, *, broken: bool) -> None:
        """Give it back to the pool; ``broken``: what comes over it next is not what will have been asked for."""
        link, self._link = self._link, None
        if link is not None:
            try:
                if broken:
                    await link.connection.disconnect(nowait=True)
            finally:
                await self._pool.release(link.connection)

    async def close(self) -> None:
        await self.let_go(broken=True)
        await self._pool.aclose()
