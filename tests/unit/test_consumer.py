"""How a worker comes back to its broker."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest
import redis.exceptions
import structlog
from celery import Celery
from celery.exceptions import WorkerShutdown

from tests import servers
from worker.runtime.config import celery_config
from worker.runtime.consumer import LIVED, LONGEST_PAUSE, DoorbellConsumer
from worker.runtime.progress import PROGRESS
from worker.runtime.transport import GuardedChannel
from worker.settings import Settings


class Enough(Exception):
    pass


@pytest.fixture
def consumer() -> DoorbellConsumer:
    app = Celery("test", set_as_current=False)
    app.config_from_object(celery_config(Settings(broker_url=f"redis://127.0.0.1:{servers.free_port()}/0"), {}))
    assert app.conf.worker_consumer == "worker.runtime.consumer:DoorbellConsumer"
    pool = mock.Mock(num_processes=1, is_green=False)
    return DoorbellConsumer(lambda _: None, app=app, controller=SimpleNamespace(use_eventloop=False), pool=pool)


def test_a_broker_that_was_away_for_long_is_found_within_seconds(
    consumer: DoorbellConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 200:
            raise Enough

    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    with pytest.raises(Enough):
        consumer.connect()
    assert sum(slept[-8:]) == 2 * LONGEST_PAUSE  # kombu sleeps a second at a time, and then the rest


def test_a_broker_that_takes_connections_and_refuses_commands_is_not_stormed(
    consumer: DoorbellConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only replica answers PING, so connecting works."""
    now = 1000.0
    pauses = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("worker.runtime.consumer.time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    connection = mock.Mock()
    for _ in range(8):
        consumer.ensure_connected(connection)
        consumer.connection = connection
        before = now
        consumer.on_connection_error_after_connected(redis.exceptions.ReadOnlyError())
        pauses.append(now - before)
    assert pauses == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0]

    now += LIVED + 1
    before = now
    consumer.on_connection_error_after_connected(redis.exceptions.ConnectionError())
    assert now == before, "the loss of a connection that lived is no refusal"


def test_a_signal_ends_the_wait_for_a_refusing_broker(
    consumer: DoorbellConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery.worker.state.should_stop", 0)
    consumer.connection = connection = mock.Mock()
    consumer.ensure_connected(connection)
    with pytest.raises(WorkerShutdown):
        consumer.on_connection_error_after_connected(redis.exceptions.ReadOnlyError())


def test_a_doorbell_that_cannot_be_put_back_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise redis.exceptions.ConnectionError("refused")

    monkeypatch.setattr("kombu.transport.redis.Channel._restore", gone)
    channel = GuardedChannel.__new__(GuardedChannel)
    channel._restore("message")


def test_workers_do_not_talk_among_themselves(consumer: DoorbellConsumer) -> None:
    names = {step.alias for step in consumer.steps}
    assert names.isdisjoint({"Gossip", "Mingle"}), names


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"headers": None}, "no headers"),
        ({"headers": {"task": "handoff.sequence", "id": "1"}, "payload": [["secret"], {}, {}]}, "no partition"),
        ({"headers": {"task": "handoff.run.gone", "id": "1"}, "payload": [[0], {}, {}]}, "no such handler here"),
        ({"headers": {"task": "nobody's", "id": "1"}, "payload": [[0], {}, {}]}, "no such handler here"),
    ],
)
def test_what_is_no_doorbell_is_heard_and_refused_in_a_line_that_quotes_nothing(
    consumer: DoorbellConsumer, message: dict[str, object], why: str
) -> None:
    made = mock.Mock(delivery_info={"routing_key": "q"}, **message)
    before = PROGRESS.received["q"]
    with structlog.testing.capture_logs() as logged:
        consumer.create_task_handler()(made)
    made.reject.assert_called_once_with()
    made.ack.assert_not_called()
    assert PROGRESS.received["q"] == before + 1
    assert [(line["event"], line["why"]) for line in logged] == [("message_dropped", why)]
    assert "secret" not in str(logged)
    assert "nobody" not in str(logged)


def test_attempts_to_come_back_are_noted(consumer: DoorbellConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = PROGRESS.failures

    def sleep(_: float) -> None:
        raise Enough

    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    with pytest.raises(Enough):
        consumer.connect()
    assert PROGRESS.failures == before + 1


def test_a_bell_is_written_to_the_pool_s_idle_processes_at_once(consumer: DoorbellConsumer) -> None:
    written: list[list[int]] = []
    consumer.hub = SimpleNamespace(consolidate_callback=written.append)
    pool = SimpleNamespace(outbound_buffer=["a job"], _all_inqueues={3, 4, 5}, _active_writes={4})
    consumer.pool = SimpleNamespace(_pool=pool)
    consumer._hand_out()
    assert [sorted(pipes) for pipes in written] == [[3, 5]]
    for nothing in ({"outbound_buffer": []}, {"_active_writes": {3, 4, 5}}):
        consumer.pool = SimpleNamespace(_pool=SimpleNamespace(**vars(pool) | nothing))
        consumer._hand_out()
    assert len(written) == 1


@pytest.mark.parametrize("pool", [SimpleNamespace(), SimpleNamespace(_pool=None), SimpleNamespace(_pool=object())])
def test_a_pool_of_another_kind_is_left_alone(consumer: DoorbellConsumer, pool: SimpleNamespace) -> None:
    consumer.pool = pool
    for hub in (None, SimpleNamespace(), SimpleNamespace(consolidate_callback=None)):
        consumer.hub = hub
        consumer._hand_out()
