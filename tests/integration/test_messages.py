"""Prepared messages are what kombu sends, and bells that are carried are heard by whoever reads the queue."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
import structlog
from kombu.messaging import Producer

from tests import access, servers
from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change
from worker.doorbell import (
    SEQUENCE_QUEUE,
    Doorbell,
    carried,
    connect,
    connection_to,
    runner_bell,
    sequencer_bell,
)
from worker.messages import Bell, Messages, publish
from worker.runtime.process import Bells
from worker.runtime.sequencer import Sequencer
from worker.settings import Settings
from worker.store.client import connect as connect_store
from worker.store.keys import PartitionKeys

CRM = spec_of(lambda subject, ctx: None)
MAIL = spec_of(lambda subject, ctx: None, name="mail", queue="slow")
BELLS = [sequencer_bell(0), sequencer_bell(4095), runner_bell("crm", "q ü", 7), runner_bell("mail", "slow", 12, 1.5)]


def queued(client: redis.Redis, prefix: str, queue: str) -> list[dict[str, Any]]:
    """What is in the list of a queue, oldest first."""
    entries: Any = client.lrange(f"{prefix}:broker:{queue}", 0, -1)
    return [json.loads(entry) for entry in reversed(entries)]


def alike(message: dict[str, Any]) -> dict[str, Any]:
    """The message without what is another in each, which has to look as it should."""
    for place, name in ((message["headers"], "id"), (message["properties"], "delivery_tag")):
        UUID(place[name])
        place[name] = "?"
    if "eta" in message["headers"]:
        datetime.fromisoformat(message["headers"]["eta"])
        message["headers"]["eta"] = "?"
    return message


@pytest.mark.parametrize("bell", BELLS, ids=lambda bell: f"{bell.task}-{bell.delay}")
def test_a_prepared_message_is_the_one_that_kombu_sends(bell: Bell, server_url: str, prefix: str) -> None:
    with connection_to(Settings(redis_url=server_url, prefix=prefix)) as connection:
        connect(connection)
        publish(Producer(connection), bell)
    with redis.Redis.from_url(server_url) as client:
        ((sent,),) = [queued(client, prefix, bell.queue)]
    prepared = json.loads(Messages().of(bell))
    assert list(prepared) == list(sent)
    assert alike(prepared) == alike(sent)


def test_each_message_has_ids_of_its_own() -> None:
    """Celery knows by them which messages it has, and counts wrong when two have the same."""
    messages = Messages()
    made = [json.loads(messages.of(sequencer_bell(1))) for _ in range(50)]
    ids = [message["headers"]["id"] for message in made] + [message["properties"]["delivery_tag"] for message in made]
    assert len(set(ids)) == 100


def test_a_late_bell_says_when() -> None:
    before = datetime.now(UTC)
    eta = datetime.fromisoformat(json.loads(Messages().of(sequencer_bell(1, 90.0)))["headers"]["eta"])
    assert timedelta(seconds=0) <= eta - before - timedelta(seconds=90) < timedelta(seconds=60)


def test_all_bells_are_one_write(server_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    doorbell = Doorbell(Settings(redis_url=server_url, prefix=prefix))
    doorbell.ring_sequencer(1)  # which also makes the connection
    written = []
    send = redis.Connection.send_packed_command

    def sending(self: redis.Connection, command: Any, check_health: bool = True) -> None:
        written.append(b"".join(command) if isinstance(command, list) else command)
        send(self, command, check_health)

    monkeypatch.setattr(redis.Connection, "send_packed_command", sending)
    doorbell.ring([runner_bell("crm", "q", 1), runner_bell("mail", "slow", 1), runner_bell("crm", "q", 2)])
    (one,) = written
    assert one.count(b"LPUSH") == 3
    with redis.Redis.from_url(server_url) as client:
        found = [
            (queue, message["headers"]["task"]) for queue in ("q", "slow") for message in queued(client, prefix, queue)
        ]
    assert found == [("q", "handoff.run.crm"), ("q", "handoff.run.crm"), ("slow", "handoff.run.mail")]
    doorbell.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"redis_url": "unix:///run/v.sock?db=2"}, True),
        ({"redis_url": "redis+sentinel://a,b/m/0"}, True),
        ({"redis_url": "redis://h/2"}, True),
        ({"broker_url": "redis://127.0.0.1:6379/1"}, False),
        ({"broker_url": "amqp://h"}, False),
        ({"redis_url": "redis+cluster://a:7000", "broker_url": "redis://h"}, False),
        # redis-py keeps the state in database 3, and kombu, which does not know this, the bells in 0.
        ({"redis_url": "redis://h?db=3"}, False),
    ],
)
def test_bells_are_carried_where_the_state_and_they_are_in_one_place(settings: dict[str, Any], expected: bool) -> None:
    assert (carried(Settings(**settings)) is not None) == expected


def sequenced(partition: Partition, *, seq: int = 1, broker: str | None = None) -> Bells:
    """An event for both handlers, sequenced by a process with real bells, which are answered with."""
    process, _ = process_of(partition, CRM, MAIL)
    bells = Bells(partition.settings.model_copy(update={"broker_url": broker}))
    process.bells = bells
    partition.append(change("a", seq, assignee=f"m{seq}"))
    assert Sequencer(process, 1).run() == 1
    return bells


def test_a_commit_brings_the_bells_of_its_jobs(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    def ring(*_: object) -> None:
        raise AssertionError("rung")

    monkeypatch.setattr(Doorbell, "ring", ring)
    partition.settings.gap_wait = 0.0
    sequenced(partition)
    prefix = partition.settings.prefix
    for queue, task in (("q", "handoff.run.crm"), ("slow", "handoff.run.mail")):
        (message,) = queued(partition.client, prefix, queue)
        assert message["headers"]["task"] == task
        assert message["properties"]["delivery_info"] == {"exchange": "", "routing_key": queue}
    sequenced(partition, seq=2)
    assert [len(queued(partition.client, prefix, queue)) for queue in ("q", "slow")] == [1, 1], "one is out for each"
    partition.client.delete(partition.keys.runner_bell("mail"))
    sequenced(partition, seq=3)
    assert [len(queued(partition.client, prefix, queue)) for queue in ("q", "slow")] == [1, 2]


def test_a_commit_brings_no_bells_to_another_server(partition: Partition) -> None:
    partition.settings.gap_wait = 0.0
    with servers.running("valkey") as broker:
        sequenced(partition, broker=broker)
        with redis.Redis.from_url(broker) as client:
            found = [len(queued(client, partition.settings.prefix, queue)) for queue in ("q", "slow", SEQUENCE_QUEUE)]
    assert found == [1, 1, 0]
    assert not partition.client.exists(f"{partition.settings.prefix}:broker:q")


def test_a_list_that_is_none_costs_a_bell_and_no_more(partition: Partition) -> None:
    partition.settings.gap_wait = 0.0
    partition.client.set(f"{partition.settings.prefix}:broker:q", "in the way")
    with structlog.testing.capture_logs() as logged:
        sequenced(partition)
    assert [line["event"] for line in logged] == ["bell_lost"]
    assert partition.seqs_in("crm", "a") == partition.seqs_in("mail", "a") == [1]
    assert len(queued(partition.client, partition.settings.prefix, "slow")) == 1
    partition.balanced("crm", "mail")


def test_a_user_without_the_right_to_carry_rings_as_before() -> None:
    """Rights that were given out before there was a bell in the commit: nothing stops, and a line says what to do."""
    with servers.running("valkey", locked=True) as url, redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "old", "reset", "on", f">{access.PASSWORD}", *_rights_before())
        theirs = access.as_user(url, "worker").replace("handoff-worker", "old")
        own = Settings(redis_url=theirs, prefix="handoff", gap_wait=0.0)
        partition = Partition(own, connect_store(own), PartitionKeys("handoff", 1))
        with structlog.testing.capture_logs() as logged:
            bells = sequenced(partition)
            process, _ = process_of(partition, CRM, MAIL)
            process.bells = bells
            partition.append(change("a", 2, assignee="m2"))
            Sequencer(process, 1).run()
        assert [line["event"] for line in logged] == ["bells_not_carried"]
        assert bells.carried is None
        assert [len(queued(client, "handoff", queue)) for queue in ("q", "slow")] == [1, 1]
        assert partition.seqs_in("crm", "a") == [1, 2]


def _rights_before() -> list[str]:
    (line,) = [line for line in access.FILE.read_text().splitlines() if line.startswith("user handoff-worker ")]
    both = "(~handoff:{p*}:* ~handoff:broker:* +eval +evalsha)"
    assert both in line
    rest = line.replace(both, "").partition(" on ")[2]
    plain, _, groups = rest.partition("(")
    return [*plain.split(), *(f"({group.rstrip(') ')})" for group in groups.split("("))]
