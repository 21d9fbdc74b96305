"""What the ingress rings with: a script in the write that stores, and its own thread where that can't be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis
import structlog

from ingress.intake import Intake
from ingress.line import Outcome
from ingress.metrics import Metrics
from tests import access, servers
from tests.ingress_kit import PARTITIONS, event, ingress
from tests.processes import until
from worker.doorbell import SEQUENCE_QUEUE, carried, sequencer_bell
from worker.messages import Messages
from worker.settings import Settings
from worker.store.installation import load_scripts
from worker.store.keys import PartitionKeys

pytestmark = pytest.mark.server
LIFE = 60_000  # ms: no bell is taken for lost here, however slow the machine


@pytest.fixture(autouse=True)
def _bells_live_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.bells._LIFE", str(LIFE))


def queued(client: redis.Redis, prefix: str) -> list[dict[str, Any]]:
    entries: Any = client.lrange(f"{prefix}:broker:{SEQUENCE_QUEUE}", 0, -1)
    return [json.loads(entry) for entry in reversed(entries)]


def partitions_of(messages: list[dict[str, Any]]) -> list[int]:
    """Whose bells they are; each has ids of its own, and else all that a bell has."""
    ids = {message["headers"].pop("id") for message in messages}
    tags = {message["properties"].pop("delivery_tag") for message in messages}
    assert len(ids | tags) == 2 * len(messages)
    found = []
    for message in messages:
        (number,) = [number for number in range(PARTITIONS) if message["body"] == bare(number)["body"]]
        assert message == bare(number)
        found.append(number)
    return found


def bare(partition: int) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(Messages().of(sequencer_bell(partition)))
    del message["headers"]["id"], message["properties"]["delivery_tag"]
    return message


def store(settings: Settings, *batches: list[int], flush: bool = False) -> tuple[list[int], float]:
    """Store a delivery for each of these partitions, batch by batch; those that were left to the ringer, and how many
    bells were carried."""
    left: list[int] = []
    metrics = Metrics()

    async def scenario() -> None:
        intake = Intake(settings.address, metrics, left.extend, flush=flush, carried=carried(settings))
        await intake.open(settings.prefix, PARTITIONS)
        for partitions in batches:
            outcomes = await asyncio.gather(*(intake.submit(number, b"x", None) for number in partitions))
            assert set(outcomes) == {Outcome.STORED}
        await intake.drain()
        await intake.close()

    asyncio.run(scenario())
    return left, metrics.registry.get_sample_value("handoff_ingress_bells_total", {"outcome": "rung"}) or 0.0


def test_a_bell_is_carried_with_the_deliveries_until_it_is_answered(settings: Settings, client: redis.Redis) -> None:
    load_scripts(client, settings)
    assert store(settings, [0, 1, 1, 3], [0, 1, 2]) == ([], 4)
    assert partitions_of(queued(client, settings.prefix)) == [0, 1, 3, 2]
    client.delete(PartitionKeys(settings.prefix, 1).bell)
    assert store(settings, [0, 1]) == ([], 1)
    assert partitions_of(queued(client, settings.prefix)) == [0, 1, 3, 2, 1]
    assert 0 < client.pttl(PartitionKeys(settings.prefix, 0).bell) <= LIFE


def test_a_server_that_has_not_the_script_leaves_the_bells_to_the_thread(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.script_flush()
    assert store(settings, [0, 1], [2]) == ([0, 1, 2], 0)
    assert client.exists(PartitionKeys(settings.prefix, 2).bell), "it rests, and marks"
    monkeypatch.setattr("ingress.bells.REST", 0.0)
    load_scripts(client, settings)
    assert store(settings, [3]) == ([], 1)


def test_a_bell_that_can_not_be_pushed_is_the_thread_s_to_ring(settings: Settings, client: redis.Redis) -> None:
    """Or nobody would come before its mark has run out, each time."""
    load_scripts(client, settings)
    client.set(f"{settings.prefix}:broker:{SEQUENCE_QUEUE}", "in the way")
    with structlog.testing.capture_logs() as logged:
        assert store(settings, [0, 1]) == ([0, 1], 0)
    assert {line["event"] for line in logged} == {"bell_not_carried"}


def test_it_is_tried_again_when_it_has_rested(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.bells.REST", 0.0)
    client.script_flush()
    assert store(settings, [0], [0]) == ([0, 0], 0), "asked for the script both times"


def test_where_a_202_waits_for_the_disk_no_bell_is_in_the_transaction() -> None:
    with servers.running("valkey") as url, redis.Redis.from_url(url) as client:
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "always")
        own = Settings(redis_url=url)
        load_scripts(client, own)
        assert store(own, [0, 1], flush=True) == ([0, 1], 0)


def test_a_user_without_the_right_to_carry_rings_as_before() -> None:
    """Rights that were given out before bells were carried: no delivery is refused, and a line says what to do."""
    with servers.running("valkey", locked=True) as url, redis.Redis.from_url(url) as client:
        load_scripts(client, Settings(redis_url=url))
        (line,) = [line for line in access.FILE.read_text().splitlines() if line.startswith("user handoff-ingress ")]
        both = "(~handoff:{p*}:bell ~handoff:broker:* +evalsha)"
        assert both in line
        plain, _, groups = line.replace(both, "").partition(" on ")[2].partition("(")
        rights = [*plain.split(), *(f"({group.rstrip(') ')})" for group in groups.split("("))]
        client.execute_command("ACL", "SETUSER", "old", "reset", "on", f">{access.PASSWORD}", *rights)
        own = Settings(redis_url=access.as_user(url, "ingress").replace("handoff-ingress", "old"))
        with structlog.testing.capture_logs() as logged:
            assert store(own, [0], [1], [1]) == ([0, 1], 0)
        assert [line["event"] for line in logged] == ["bells_not_carried"]


@pytest.mark.parametrize("loaded", [True, False])
def test_a_bell_is_rung_for_what_was_accepted(server_url: str, prefix: str, client: redis.Redis, loaded: bool) -> None:
    if loaded:
        load_scripts(client, Settings(redis_url=server_url))
    else:
        client.script_flush()
    with ingress(server_url, prefix) as door:
        assert door.post(event()).status_code == 202
        until(lambda: queued(client, prefix), "a doorbell on the broker")
        assert door.metric('handoff_ingress_bells_total{outcome="rung"}') == 1
        connections = [found["name"] for found in client.client_list() if found["user"] == "handoff-ingress"]
        assert ("handoff-bell" in connections) != loaded, "its own connection to the broker is made for nothing"
        assert door.process.stop() == 0


def test_a_second_delivery_finds_the_first_one_s_bell_out(server_url: str, prefix: str, client: redis.Redis) -> None:
    load_scripts(client, Settings(redis_url=server_url))
    with ingress(server_url, prefix) as door:
        assert door.post(event()).status_code == 202
        assert door.post(event()).status_code == 202
        assert len(queued(client, prefix)) == 1
