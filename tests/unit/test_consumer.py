"""How a worker comes back to its broker."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery

from tests import servers
from worker.runtime.config import celery_config
from worker.runtime.consumer import LONGEST_PAUSE, DoorbellConsumer
from worker.settings import Settings


class Enough(Exception):
    pass


@pytest.fixture
def consumer() -> DoorbellConsumer:
    app = Celery("test", set_as_current=False)
    app.config_from_object(celery_config(Settings(broker_url=f"redis://127.0.0.1:{servers.free_port()}/0"), {}))
    assert app.conf.worker_consumer == "worker.runtime.consumer:DoorbellConsumer"
    return DoorbellConsumer(lambda _: None, app=app, controller=SimpleNamespace(use_eventloop=False))


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


def test_workers_do_not_talk_among_themselves(consumer: DoorbellConsumer) -> None:
    names = {step.alias for step in consumer.steps}
    assert names.isdisjoint({"Gossip", "Mingle"}), names
