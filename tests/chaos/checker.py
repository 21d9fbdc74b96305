"""The verdict on a run: each invariant of the design, held or broken."""

from __future__ import annotations

from tests.chaos import check_books, check_calls, check_owners, check_time
from tests.chaos.check_time import Bounds
from tests.chaos.history import Finding, History


def check(history: History, bounds: Bounds | None = None) -> list[Finding]:
    """All seven, in the order of the design."""
    limits = bounds or Bounds()
    return [
        check_books.conservation(history),
        check_calls.order(history),
        check_calls.uniqueness(history),
        check_calls.convergence(history),
        check_time.isolation(history, limits),
        check_time.progress(history, limits),
        check_owners.single_writer(history),
    ]
