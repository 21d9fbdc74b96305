"""What an ingress takes in counts against the bounds at once, before the next look."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from ingress.monitor import Monitor
from worker.core.backpressure import Load, Reason
from worker.settings import Settings


@dataclass
class Taken:
    """What of an intake the monitor reads."""

    stored: int = 0
    stored_bytes: int = 0
    unanswered: int = 0
    unanswered_bytes: int = 0


def closed(taken: Taken, **settings: Any) -> tuple[Load, Reason | None, list[str]]:
    async def look() -> tuple[Load, Reason | None, list[str]]:
        monitor = Monitor(Settings(**settings), taken)  # type: ignore[arg-type]
        with structlog.testing.capture_logs() as logged:
            reasons = {monitor.closed for _ in range(3)}
        return monitor.load, reasons.pop(), [line["why"] for line in logged]

    return asyncio.run(look())


@pytest.mark.parametrize("taken", [Taken(stored=10), Taken(unanswered=10), Taken(stored=6, unanswered=4)])
def test_deliveries_under_way_count_like_stored_ones(taken: Taken) -> None:
    """Or all that arrive together would find the last place free."""
    load, reason, why = closed(taken, max_backlog=10)
    assert (load.events, reason) == (10, Reason.EVENTS)
    assert why == ["10 accepted deliveries wait, of 10 that may (HANDOFF_MAX_BACKLOG)"], "said once"
    assert closed(taken, max_backlog=11)[1:] == (None, [])


@pytest.mark.parametrize("taken", [Taken(stored_bytes=2048), Taken(stored_bytes=1000, unanswered_bytes=1048)])
def test_their_bytes_do_too(taken: Taken) -> None:
    load, reason, _ = closed(taken, max_backlog_bytes=2048)
    assert (load.size, load.memory, reason) == (2048, 2048, Reason.BYTES)
    assert closed(taken, max_backlog_bytes=2049)[1] is None


def test_without_bounds_it_stays_open() -> None:
    assert closed(Taken(10**9, 10**15), max_backlog=0, max_backlog_bytes=0)[1:] == (None, [])
