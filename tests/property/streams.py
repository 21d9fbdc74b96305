"""Draws what a careless network makes of a few teams' events: any order, doubled, lost, cut into batches anywhere."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.property.books import Books, Item
from worker.core.envelope import Envelope, Unreadable
from worker.core.lateness import GapWait
from worker.core.sequencing import Delivery, Policy, Proof

TEAMS = ("ants", "bees", "cats")
EPOCH = 1_000_000  # ms; where clocks start
LONG = 10**9  # ms; longer than any story drawn here
END = EPOCH + 10 * LONG


@dataclass(frozen=True)
class Batch:
    """``clock`` is what gaps are judged by, ``now`` the time at which ids are looked up."""

    items: list[Item]
    clock: int
    now: int


@st.composite
def events_of(draw: st.DrawFn, team: str, *, timed: bool, most: int = 8) -> list[Envelope]:
    """A team's events: numbers that rise from anywhere, with twins and with numbers that are never sent.

    ``timed``: all happened before anything arrives, and say when; else their time may be unknown, or ahead of ours.
    """
    times = st.sampled_from([EPOCH - 2000, EPOCH - 700, EPOCH])  # few, so that twins often have the same
    seq = draw(st.sampled_from([0, 0, 1, 7]))
    events = []
    for index in range(draw(st.integers(0, most))):
        if index:
            seq += draw(st.sampled_from([1, 1, 1, 1, 2, 3, 0]))
        occurred = draw(times if timed else st.one_of(st.just(EPOCH + 10 * index), times, st.none()))
        prospect = draw(st.sampled_from(["p", "q", None]))
        assignee = draw(st.sampled_from(["m1", "m2", None])) if prospect is not None else None
        name = draw(st.sampled_from("zyxab")) + str(index)  # ids do not sort as numbers do
        events.append(Envelope(name, seq, team, "prospect.assigneeChanged", occurred, prospect, assignee))
    return events


@st.composite
def batches(draw: st.DrawFn, *, timed: bool = False) -> list[Batch]:
    """Deliveries drawn from three teams' events with repetition: so they come doubled, reordered or not at all."""
    events = [event for team in TEAMS for event in draw(events_of(team, timed=timed))]
    others = [Unreadable("not_json"), *(Proof(team, seq) for team in TEAMS for seq in (0, 3, 9))]
    choices = st.sampled_from([*events * (1 + 40 // max(1, len(events))), *others])
    numbers = itertools.count()
    arrived = now = EPOCH
    found = []
    for _ in range(draw(st.integers(1, 6))):
        items: list[Item] = []
        for content in draw(st.lists(choices, max_size=8)):
            arrived += draw(st.sampled_from([0, 0, 1, 7, 60, 900]))
            entry = f"{arrived}-{next(numbers)}"
            items.append(
                (entry, content) if isinstance(content, Proof) else Delivery(entry, arrived, content, len(found))
            )
        # While there is a backlog the clock is the last arrival, however late it is read; a clock may also be set back.
        behind = draw(st.sampled_from([0, 0, 40, 5000]))
        clock = arrived if items and draw(st.booleans()) else arrived + draw(st.sampled_from([0, 30, 200, 3000, -500]))
        now = max(clock, arrived, now) + behind
        found.append(Batch(items, clock, now))
        arrived += draw(st.sampled_from([0, 0, 150, 2500]))
    return found


policies = st.builds(
    Policy,
    gap_wait=st.one_of(
        st.builds(GapWait, fixed_ms=st.sampled_from([0, 1, 50, 1000, LONG])),
        st.builds(GapWait, least_ms=st.sampled_from([0, 20]), most_ms=st.sampled_from([100, 10_000])),
    ),
    held_max=st.sampled_from([1, 2, 3, 1000]),
    held_bytes=st.sampled_from([1, 4, 7, 1000]),  # bodies have as many as the number of their batch
    dedup_window_ms=st.sampled_from([1000, LONG]),
)
fixed_policies = policies.filter(lambda policy: policy.gap_wait.fixed_ms is not None)


def run(policy: Policy, story: list[Batch], *, as_text: bool = False, forgetful: bool = False) -> Books:
    books = Books(policy, as_text=as_text, forgetful=forgetful)
    for batch in story:
        books.step(batch.items, batch.clock, batch.now)
    return books


def finished(policy: Policy, story: list[Batch], *, as_text: bool = False, forgetful: bool = False) -> Books:
    """``run``, and then time passes until nothing waits any more."""
    books = run(policy, story, as_text=as_text, forgetful=forgetful)
    books.step([], END)
    return books
