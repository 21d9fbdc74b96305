"""A link to the server: as many replies as were asked for, whole or in pieces; and what it does when that is not so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis.exceptions

from ingress.link import Link


class Wire(asyncio.Transport):
    """What a link writes to, and who ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False
        self.protocol: Any = asyncio.Protocol()

    def get_protocol(self) -> Any:
        return self.protocol

    def writelines(self, list_of_data: Any) -> None:
        self.sent += b"".join(list_of_data)

    def abort(self) -> None:
        self.aborted = True


def run(scenario: Callable[[Link, Wire], Awaitable[None]]) -> None:
    async def whole() -> None:
        wire = Wire()
        connection: Any = object()
        await scenario(Link(connection, wire), wire)

    asyncio.run(whole())


async def asked(link: Link, expected: int) -> tuple[asyncio.Task[None], list[Any]]:
    """An exchange that waits for its replies."""
    replies: list[Any] = []
    task = asyncio.create_task(link.exchange([b"one ", b"two"], expected, replies))
    await asyncio.sleep(0)
    return task, replies


def test_replies_in_pieces_make_one_answer() -> None:
    async def scenario(link: Link, wire: Wire) -> None:
        task, replies = await asked(link, 3)
        assert wire.sent == b"one two"
        for piece in (b"+O", b"K\r\n-ERR n", b"o\r\n$3\r\na", b"bc\r\n"):
            assert not task.done()
            link.data_received(piece)
        await task
        assert (replies[0], replies[2]) == (b"OK", b"abc")
        assert isinstance(replies[1], redis.exceptions.ResponseError)

    run(scenario)


@pytest.mark.parametrize("late", [False, True])
def test_a_reply_to_nothing_ends_the_link(late: bool) -> None:
    """The next batch would take it for its own, and answer for what is not stored."""

    async def scenario(link: Link, wire: Wire) -> None:
        task, _ = await asked(link, 1)
        link.data_received(b"+OK\r\n" if late else b"+OK\r\n+OK\r\n")
        await task
        link.data_received(b"+OK\r\n")
        assert wire.aborted
        assert not link.usable
        with pytest.raises(redis.exceptions.ConnectionError):
            await link.exchange([b"three"], 1, [])

    run(scenario)


def test_what_is_no_reply_at_all_ends_it_too() -> None:
    async def scenario(link: Link, wire: Wire) -> None:
        task, _ = await asked(link, 1)
        link.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(redis.exceptions.InvalidResponse):
            await task
        assert wire.aborted

    run(scenario)


def test_a_connection_that_ends_leaves_the_replies_that_came() -> None:
    async def scenario(link: Link, wire: Wire) -> None:
        task, replies = await asked(link, 2)
        link.data_received(b"+OK\r\n")
        link.connection_lost(None)
        with pytest.raises(redis.exceptions.ConnectionError):
            await task
        assert (replies, link.usable) == ([b"OK"], False)

    run(scenario)
