"""Which processes are past helping."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from tests.runtime_kit import lane
from worker.runtime import fitness
from worker.runtime.fitness import HUNG_MOST, fit
from worker.runtime.process import Process


class Ready:
    def __init__(self, answer: bool = True) -> None:
        self.ready = lambda: answer


def process_with(**hung: int) -> Process:
    lanes = {name: [lane(f"l{number}", 1) for number in range(count)] for name, count in hung.items()}
    unused: Any = None
    return Process(unused, {}, unused, unused, unused, unused, hung=lanes)


@pytest.mark.parametrize("pooled", [True, False])
def test_calls_that_hang_are_bounded(monkeypatch: pytest.MonkeyPatch, pooled: bool) -> None:
    """In a pool all of a process's together; where nobody would replace it, each handler's, and the others go on."""
    monkeypatch.setattr(fitness, "replaceable", lambda: pooled)
    executor: Any = Ready()
    with structlog.testing.capture_logs() as lines:
        assert fit(process_with(crm=HUNG_MOST - 1), "crm", executor)
        assert not fit(process_with(crm=HUNG_MOST), "crm", executor)
        assert fit(process_with(other=HUNG_MOST), "crm", executor) is not pooled
    assert lines[0]["event"] == "calls_hang"
    assert (lines[0]["calls"], lines[0]["leaving"]) == (HUNG_MOST, pooled)


def test_calls_that_end_after_all_are_forgotten() -> None:
    process = process_with(crm=HUNG_MOST)
    process.hung["crm"][0].finished = True
    executor: Any = Ready()
    assert fit(process, "crm", executor)
    assert process.hanging("crm") == HUNG_MOST - 1


def test_a_blocked_event_loop_is_reported() -> None:
    executor: Any = Ready(False)
    with structlog.testing.capture_logs() as lines:
        assert not fit(process_with(), "crm", executor)
    assert [line["event"] for line in lines] == ["event_loop_blocked"]
