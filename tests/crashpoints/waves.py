"""Which points real processes die at, in which kind of work. A point is in one row; the rest of the table is for the
front door (tests/integration/test_crash_ingress.py) and for commands, which die in the test's own process."""

from __future__ import annotations

from typing import Final

from tests.crashpoints.fleet import Plan
from tests.crashpoints.points import SEQUENCER, When, name_of, of_scripts

BOTH: Final = (When.BEFORE, When.AFTER)


def _of(kind: str, *points: str) -> list[Plan]:
    return [Plan(kind, point) for point in points]


def _both(*names: str) -> list[str]:
    return [name_of(name, when) for name in names for when in BOTH]


SHORT: Final = (
    *_of("plain", "script.acquire.unread", "script.read.after", "sequencer.plan.after", "script.commit.torn"),
    *_of("plain", "script.commit.unread", "script.release.unread"),
    *_of("plain", "script.claim.unread", "runner.call.after", "script.settle.torn", "script.settle.unread"),
    *_of("coroutine", "side_run.run.before", "runner.call.after"),
    *_of("batch", "script.fill.unread"),
    *_of("retrying", "script.settle.before"),
    *_of("burying", "script.settle.after"),
    *_of("rated", "script.take.unread"),
    *_of("slow", "script.renew.unread", "bell.runner.before"),  # its time slice is over, and it has to ring again
    *_of("threads", "lingering.look.before"),
)
"""For `make test`: one of each step, in every kind of handler."""

LONG: Final = (
    *_of("plain", *of_scripts("acquire", "read", "commit", "release", "claim", "settle", "trim")),
    *_of("plain", *_both(*(row.name for row in SEQUENCER))),
    *_of("plain", *_both("runner.ask", "runner.controls", "runner.claim", "runner.bodies", "runner.begin")),
    *_of("plain", *_both("runner.call", "runner.settle", "runner.tell", "runner.end")),
    *_of("slow", *of_scripts("renew"), *_both("keeper.renew", "bell.runner", "bell.ring", "bell.push")),
    *_of("coroutine", *_both("side_run.start", "side_run.run", "runner.call", "runner.settle")),
    *_of("threads", *_both("lingering.look", "runner.call")),
    *_of("batch", *of_scripts("fill"), *_both("runner.call", "runner.settle")),
    *_of("conflating", *of_scripts("conflate"), *_both("conflation.tried", "conflation.page", "runner.call")),
    *_of("retrying", *of_scripts("settle")),
    *_of("burying", *of_scripts("settle")),
    *_of("rated", *of_scripts("take"), *_both("rate.demand", "rate.claimed")),
)
"""For `make crash`."""

WHOLE: Final = (
    Plan("plain", "script.lead.unread", anywhere=True),
    Plan("plain", "script.due.unread"),
    Plan("plain", "runner.call.after", all_of_it=True),
)
WHOLE_LONG: Final = (
    *(Plan("plain", point, anywhere=True) for point in of_scripts("lead")),
    *(Plan("plain", point, anywhere=True) for point in _both("sweeper.admitted", "sweeper.trim")),
    *(Plan("plain", point) for point in (*of_scripts("due"), *_both("sweeper.due"))),
    *(Plan("plain", point, all_of_it=True) for point in _both("sequencer.commit", "runner.call", "runner.settle")),
)
"""Whole workers: of the sweeper's points, which are its main process's, and with their pools."""
