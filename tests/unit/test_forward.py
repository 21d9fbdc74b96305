"""What a route does when a sending fails; with real brokers see tests/integration/test_route.py."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.exceptions import OperationalError

from worker import CallTimeout, Context, Event
from worker.core.handlers import Forward
from worker.runtime.forward import Forwarder
from worker.settings import Settings


class Sendings:
    """Stands for the application's ``send_task``: notes the producers, and raises what it is told to."""

    def __init__(self, forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors: list[Exception | None] = []
        self.producers: list[object] = []
        monkeypatch.setattr(forwarder._application, "send_task", self)

    def __call__(self, *args: Any, producer: object, **options: Any) -> None:
        self.producers.append(producer)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


@pytest.fixture
def forwarder() -> Forwarder:
    return Forwarder(Settings(), Forward("crm.tasks.push", "crm", "memory://"))


def send(forwarder: Forwarder) -> None:
    event = Event(b'{"id":"e1","seq":1,"type":"x"}', team_id="t", seq=1)
    forwarder(event, Context("crm", event, 1))


def test_a_connection_is_kept(forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch) -> None:
    sendings = Sendings(forwarder, monkeypatch)
    for _ in range(3):
        send(forwarder)
    assert len(set(map(id, sendings.producers))) == 1


def test_a_kept_connection_that_failed_is_replaced_and_tried_once_more(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendings = Sendings(forwarder, monkeypatch)
    send(forwarder)
    sendings.errors = [OperationalError("gone"), None]
    send(forwarder)
    first, second, third = sendings.producers
    assert first is second
    assert third is not second


def test_a_fresh_connection_that_failed_is_the_brokers_fault(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendings = Sendings(forwarder, monkeypatch)
    sendings.errors = [OperationalError("away")]
    with pytest.raises(OperationalError):
        send(forwarder)
    send(forwarder)
    sendings.errors = [OperationalError("gone"), OperationalError("and away")]
    with pytest.raises(OperationalError, match="and away"):
        send(forwarder)
    assert len(sendings.producers) == 4


def test_a_time_out_ends_the_call_and_what_was_half_written_is_not_used_again(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendings = Sendings(forwarder, monkeypatch)
    send(forwarder)
    sendings.errors = [CallTimeout("took longer")]
    with pytest.raises(CallTimeout):
        send(forwarder)
    send(forwarder)
    assert len(sendings.producers) == 3
    assert sendings.producers[2] is not sendings.producers[1]
