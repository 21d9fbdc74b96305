"""How a body is read: whole or in parts, never more of it or of all together than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from ingress import bodies as module
from ingress.bodies import WHOLE, Bodies, TooLarge

LIMIT = 2 * WHOLE


class Sender:
    """What arrives: ``parts``, then the end; or, where ``held`` is set, nothing more until it is released."""

    def __init__(self, *parts: bytes, held: bool = False) -> None:
        self.parts: Iterator[bytes] = iter(parts)
        self.more = asyncio.Event()
        self.sent = 0
        self.whole = False
        if not held:
            self.more.set()

    def __call__(self) -> asyncio.Task[bytes]:
        self.whole = True
        return asyncio.ensure_future(self._all())

    async def _all(self) -> bytes:
        await self.more.wait()
        return b"".join(self.parts)

    def __aiter__(self) -> Sender:
        return self

    async def __anext__(self) -> bytes:
        for part in self.parts:
            self.sent += len(part)
            return part
        await self.more.wait()
        raise StopAsyncIteration


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


async def started(bodies: Bodies, sender: Sender) -> asyncio.Task[bytes]:
    """A body that is being read, as far as it has come."""
    task = asyncio.create_task(bodies.read({"transfer-encoding": "chunked"}, sender))
    for _ in range(10):
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize(("size", "whole"), [(1, True), (WHOLE, True), (WHOLE + 1, False), (LIMIT, False)])
def test_a_body_is_read_as_it_was_sent(size: int, whole: bool) -> None:
    async def scenario() -> None:
        sender = Sender(b"x" * (size - 1), b"y")
        assert await Bodies(LIMIT).read({"content-length": str(size)}, sender) == b"x" * (size - 1) + b"y"
        assert sender.whole is whole

    run(scenario())


def test_no_body_is_an_empty_one() -> None:
    async def scenario() -> None:
        assert await Bodies(LIMIT).read({}, Sender(b"not asked for")) == b""

    run(scenario())


@pytest.mark.parametrize("limit", [10, LIMIT])
def test_too_large_is_read_away_to_a_bound_and_never_kept(limit: int) -> None:
    async def scenario() -> None:
        bodies = Bodies(limit)
        endless = Sender(*[b"x" * 65536] * 1000)
        with pytest.raises(TooLarge):
            await bodies.read({"transfer-encoding": "chunked"}, endless)
        assert endless.sent <= limit + module.DISCARD + 65536
        assert bodies._together == 0
        announced = Sender(b"x")
        for headers in (
            {"content-length": str(limit + module.DISCARD + 1)},
            {"content-length": str(limit + 1), "expect": "100"},
        ):
            with pytest.raises(TooLarge):
                await bodies.read(headers, announced)
        assert announced.sent == 0

    run(scenario())


@pytest.mark.parametrize("headers", [{"content-length": "5"}, {"transfer-encoding": "chunked"}])
def test_too_slow_is_a_timeout(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)

    async def scenario() -> None:
        bodies = Bodies(LIMIT)
        with pytest.raises(TimeoutError):
            await bodies.read(headers, Sender(b"abc", held=True))
        assert (bodies._together, bodies._sizes, bodies._arriving) == (0, {}, {})

    run(scenario())


def test_of_all_large_ones_together_the_slowest_goes_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTS_BYTES", 100)

    async def scenario() -> None:
        bodies = Bodies(LIMIT)
        senders = [Sender(b"x" * 40, held=True) for _ in range(3)]
        first, second, third = [await started(bodies, sender) for sender in senders]
        with pytest.raises(TimeoutError):
            await first
        assert bodies._together == 80
        for sender in senders:
            sender.more.set()
        assert (await second, await third) == (b"x" * 40, b"x" * 40)
        assert (bodies._together, bodies._sizes) == (0, {})

    run(scenario())


def test_the_slowest_may_be_the_one_that_asks_for_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTS_BYTES", 100)

    async def scenario() -> None:
        bodies = Bodies(LIMIT)

        async def first() -> bytes:
            sender = Sender(b"x" * 40)
            other: asyncio.Task[bytes] | None = None

            class Growing(Sender):
                async def __anext__(self) -> bytes:
                    nonlocal other
                    if other is None:
                        other = await started(bodies, Sender(b"x" * 90, held=True))
                    return await sender.__anext__()

            with pytest.raises(TimeoutError):
                await bodies.read({"transfer-encoding": "chunked"}, Growing())
            assert other is not None
            other.cancel()
            with pytest.raises(TimeoutError):
                await other  # a cancellation of our own that was left pending would come here
            return b"gone on"

        assert await first() == b"gone on"

    run(scenario())


def test_one_that_is_over_the_bound_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTS_BYTES", 100)

    async def scenario() -> None:
        assert await Bodies(LIMIT).read({"transfer-encoding": "chunked"}, Sender(b"x" * 300)) == b"x" * 300

    run(scenario())
