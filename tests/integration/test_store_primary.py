"""Connections behind Sentinels: the next command goes to whom they name, and Sentinels that are away stop nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import MasterNotFoundError, Sentinel

from tests import servers
from worker.store import primary
from worker.store.primary import AsyncPrimaryPool, PrimaryPool

HERE = "127.0.0.1"


class Named:
    """What Sentinels say: a port, or nothing."""

    def __init__(self, port: int) -> None:
        self.port: int | None = port

    def ask(self, _service: str) -> tuple[str, int]:
        if self.port is None:
            raise MasterNotFoundError
        return HERE, self.port


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    with servers.running("valkey") as one, servers.running("valkey") as other:
        yield [redis.Redis.from_url(url).connection_pool.connection_kwargs["port"] for url in (one, other)]


@pytest.fixture(autouse=True)
def _always_time_to_look() -> Iterator[None]:
    with mock.patch.multiple(primary, LOOK_EVERY=0.0, BLIND=0.0):
        yield


def port_of(info: Any) -> int:
    return int(info["tcp_port"])


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "handoff.sentinels"]


def test_the_next_command_goes_to_whom_sentinels_name(ports: list[int], caplog: pytest.LogCaptureFixture) -> None:
    named = Named(ports[0])
    sentinels = Sentinel([])
    with mock.patch.object(sentinels, "discover_master", named.ask):
        client = redis.Redis.from_pool(PrimaryPool("it", sentinels))
        in_hand = client.connection_pool.get_connection()
        assert port_of(client.info("server")) == ports[0]
        named.port = ports[1]
        assert port_of(client.info("server")) == ports[1]
        client.connection_pool.release(in_hand)
        assert {port_of(client.info("server")) for _ in range(3)} == {ports[1]}
        named.port = None
        assert {port_of(client.info("server")) for _ in range(3)} == {ports[1]}
        assert said(caplog) == ["sentinels_silent"]
        named.port = ports[0]
        assert port_of(client.info("server")) == ports[0]
        assert said(caplog) == ["sentinels_silent", "sentinels_answer_again"]
        client.close()


def test_it_is_the_same_in_an_event_loop(ports: list[int], caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        named = Named(ports[0])
        sentinels = AsyncSentinel([])
        with mock.patch.object(sentinels, "discover_master", mock.AsyncMock(side_effect=named.ask)):
            pool = AsyncPrimaryPool("it", sentinels)
            client = redis.asyncio.Redis.from_pool(pool)
            in_hand = await pool.get_connection()
            assert port_of(await client.info("server")) == ports[0]
            named.port = ports[1]
            while port_of(await client.info("server")) != ports[1]:  # nobody waits for the question
                pass
            await pool.release(in_hand)
            assert {port_of(await client.info("server")) for _ in range(3)} == {ports[1]}
            named.port = None
            while not said(caplog):
                assert port_of(await client.info("server")) == ports[1]
            named.port = ports[0]
            while port_of(await client.info("server")) != ports[0]:
                pass
            assert said(caplog) == ["sentinels_silent", "sentinels_answer_again"]
            await client.aclose()

    asyncio.run(main())
