"""How many messages wait, asked of brokers of several kinds."""

from __future__ import annotations

from collections.abc import Iterator

import kombu.transport
import pytest
import redis
from kombu.connection import Connection

from tests import servers
from worker.runtime import transport
from worker.runtime.waiting import Waiting
from worker.settings import Settings


@pytest.fixture(autouse=True)
def _guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kombu.transport, "TRANSPORT_ALIASES", dict(kombu.transport.TRANSPORT_ALIASES))
    transport.install()


@pytest.fixture
def broker(any_server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(any_server_url) as client:
        yield client


def test_with_redis_it_is_what_the_lists_of_all_priorities_hold(
    any_server_url: str, prefix: str, broker: redis.Redis
) -> None:
    waiting = Waiting(Settings(redis_url=any_server_url, prefix=prefix))
    assert waiting.count(["q", "other"]) == {"q": 0, "other": 0}
    broker.lpush(f"{prefix}:broker:q", "a", "b")
    broker.lpush(f"{prefix}:broker:q\x06\x163", "c")
    broker.lpush("q", "somebody else's")
    assert waiting.count(["q", "other"]) == {"q": 3, "other": 0}
    assert broker.llen(f"{prefix}:broker:q") == 2, "nothing was taken"
    waiting.close()


def test_any_other_broker_that_kombu_knows_is_asked_the_same(prefix: str) -> None:
    with Connection("memory://") as connection:
        queue = connection.SimpleQueue(prefix)
        queue.put("a")
        waiting = Waiting(Settings(broker_url="memory://"))
        assert waiting.count([prefix, f"{prefix}.none"]) == {prefix: 1, f"{prefix}.none": 0}
        waiting.close()
        queue.close()


def test_a_broker_that_is_away_can_not_be_asked_and_is_asked_again_when_it_is_back(prefix: str) -> None:
    with servers.running("valkey") as url:
        waiting = Waiting(Settings(redis_url=url, prefix=prefix))
        assert waiting.count(["q"]) == {"q": 0}
        with redis.Redis.from_url(url) as client:
            client.client_kill_filter(_type="normal", skipme=True)
            waiting.count(["q"])  # whether this is noticed within the call is the library's matter
            assert waiting.count(["q"]) == {"q": 0}
    assert waiting.count(["q"]) is None
    assert Waiting(Settings(redis_url="redis://127.0.0.1:1/0")).count(["q"]) is None
