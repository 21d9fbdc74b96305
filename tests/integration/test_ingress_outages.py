"""The real ingress while the state server or the broker is away, full, hanging or another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.ingress_kit import PARTITIONS, FrailServer, Ingress, event, frail_server, inboxes, ingress, signed
from tests.processes import until
from tests.servers import free_port
from worker.store.keys import PartitionKeys, config

pytestmark = pytest.mark.server


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[FrailServer]:
    with frail_server(tmp_path) as server:
        yield server


def accepts(door: Ingress) -> bool:
    return door.post(event()).status_code == 202


def refuses(door: Ingress, code: str) -> None:
    """A delivery is answered 503 and told when to come back; within the two seconds that a provider may wait."""
    answer = door.http.post("/webhooks/inbox", content=event(), headers=signed(event()), timeout=httpx.Timeout(2.0))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
    assert int(answer.headers["retry-after"]) > 0


def test_it_starts_without_the_server_and_goes_on_by_itself(frail: FrailServer) -> None:
    frail.kill()
    with ingress(frail.url, "t", wait="/healthz") as door:
        door.process.wait_for_output("HANDOFF_REDIS_URL")
        assert "Traceback" not in door.process.output
        assert door.http.get("/readyz").status_code == 503
        refuses(door, "store_unavailable")
        frail.start()
        until(door.ready, "ready by itself")
        assert accepts(door)
        with frail.client() as client:
            assert client.hget(config("t"), "partitions") == str(PARTITIONS).encode()


def _kill(server: FrailServer, _client: redis.Redis) -> None:
    server.kill()


def _restart(server: FrailServer, _client: redis.Redis) -> None:
    server.start()


def _pause(server: FrailServer, _client: redis.Redis) -> None:
    server.pause()


def _resume(server: FrailServer, _client: redis.Redis) -> None:
    server.resume()


def _readonly(_server: FrailServer, client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", "1")


def _writable(_server: FrailServer, client: redis.Redis) -> None:
    client.replicaof("no", "one")


def _fill(_server: FrailServer, client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)


def _make_room(_server: FrailServer, client: redis.Redis) -> None:
    client.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("fail", "mend"),
    [(_kill, _restart), (_pause, _resume), (_readonly, _writable), (_fill, _make_room)],
    ids=["killed", "hanging", "readonly", "out of memory"],
)
def test_an_outage_is_answered_later_and_ends_without_a_restart(
    frail: FrailServer,
    fail: Callable[[FrailServer, redis.Redis], None],
    mend: Callable[[FrailServer, redis.Redis], None],
) -> None:
    with ingress(frail.url, "t") as door, frail.client() as client:
        assert accepts(door)
        fail(frail, client)
        refuses(door, "store_unavailable")
        until(lambda: not door.ready(), "not ready")
        assert door.http.get("/readyz").json()["error"]["code"] == "not_ready"
        assert door.http.get("/healthz").status_code == 200, "the process is alive; a restart would mend nothing"
        mend(frail, client)
        until(lambda: accepts(door), "accepting again")
        until(door.ready, "ready again")


def test_readiness_leaves_no_trace(frail: FrailServer) -> None:
    """The write that readiness is tried with makes no key."""
    with ingress(frail.url, "t"), frail.client() as client:
        assert list(client.scan_iter()) == [config("t").encode()]


def test_a_server_with_other_partitions_ends_the_process(frail: FrailServer) -> None:
    """Also when it only turns out later: found after the start, or emptied and filled by another."""
    frail.kill()
    with ingress(frail.url, "t", wait="/healthz", PARTITIONS="4") as door:
        frail.start()
        with frail.client() as client:
            # Either it has fixed them by now, or this is what it finds.
            client.hset(config("t"), "partitions", 8)
        assert door.process.wait() == 2
        assert "ingress: HANDOFF_PARTITIONS" in door.process.output
        assert "Traceback" not in door.process.output


def test_an_emptied_server_is_given_its_partitions_again(frail: FrailServer) -> None:
    with ingress(frail.url, "t") as door, frail.client() as client:
        client.flushall()
        until(lambda: client.hget(config("t"), "partitions") == str(PARTITIONS).encode(), "written again")
        assert accepts(door)


def test_without_a_broker_deliveries_are_accepted_all_the_same(server_url: str, prefix: str, tmp_path: Path) -> None:
    port = free_port()
    with ingress(server_url, prefix, BROKER_URL=f"redis://127.0.0.1:{port}/0") as door:
        assert accepts(door)
        until(lambda: door.metric('handoff_ingress_bells_total{outcome="failed"}') > 0, "counted")
        assert accepts(door)
        assert door.metric('handoff_ingress_bells_total{outcome="rung"}') == 0
        broker = FrailServer(tmp_path, port)
        broker.start()
        try:
            until(lambda: door.metric('handoff_ingress_bells_total{outcome="rung"}') > 0, "rung when it is back")
            with broker.client() as client:
                assert client.llen(f"{prefix}:broker:handoff.sequence") == 1
        finally:
            broker.kill()


def test_over_the_backlog_bound_it_says_later_until_there_is_room(
    server_url: str, prefix: str, client: redis.Redis
) -> None:
    with ingress(server_url, prefix, MAX_BACKLOG="10") as door:
        answers = [door.post(event(f"team{n}", n)).status_code for n in range(15)]
        assert answers == [202] * 10 + [503] * 5
        refuses(door, "backlog_full")
        assert len(inboxes(client, prefix)) == 10
        assert door.ready(), "it is a bound, not a fault"
        for partition in range(PARTITIONS):
            client.delete(PartitionKeys(prefix, partition).inbox)
        until(lambda: accepts(door), "opened by itself")
