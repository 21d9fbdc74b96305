"""Hypothesis strategies: streams of events as a provider sends them, and all that can befall them on the way.

    @given(streams().flatmap(hardships))
    def test_nothing_is_lost(hardship): ...

What is drawn is built by events.py. ``assert_converges`` (convergence.py) does with them what most handlers need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf
from typing import Any, Final

from worker.core.events import AssigneeChange, Event
from worker.errors import ConfigurationError
from worker.testing.calls import Subject
from worker.testing.events import change

try:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
except ModuleNotFoundError:
    raise ConfigurationError("worker.testing.strategies", "needs Hypothesis", "pip install hypothesis") from None


SHRINKS: Final = 100  # examples that are tried to find a simpler one, once one has failed
PATIENCE: Final = 10.0  # seconds of that


@dataclass(frozen=True, slots=True)
class Hardship:
    """What befalls a stream. ``bursts``: what is delivered, each when all before has been worked on; ``crashes``: after
    which calls, counted from 1, the process dies before anybody has written that they were made."""

    bursts: tuple[tuple[Event, ...], ...]
    crashes: frozenset[int] = frozenset()

    @property
    def weight(self) -> tuple[int, int, int]:
        """The lighter, the simpler."""
        return sum(map(len, self.bursts)), len(self.crashes), len(self.bursts)

    def __str__(self) -> str:
        """By sequence number: ``[1 3] [2 3], killed after call 2``."""
        bursts = " ".join("[" + " ".join(str(event.seq) for event in burst) + "]" for burst in self.bursts)
        return bursts + "".join(f", killed after call {number}" for number in sorted(self.crashes))


def streams(
    *,
    teams: Sequence[str] = ("team1", "team2"),
    prospects: Sequence[str] = ("prospect1", "prospect2"),
    assignees: Sequence[str | None] = ("ada", "ben", None),
    most: int = 8,
    gaps: bool = True,
    echoes: bool = True,
) -> st.SearchStrategy[list[Event]]:
    """Up to ``most`` events of who owns whom, in order. Each team has prospects of its own, by those names.

    ``gaps``: numbers are left out, as of types that nobody subscribed to. ``echoes``: some changes come once more as
    the deprecated ``thread.assigned`` or ``thread.unassigned``.
    """
    step = st.tuples(
        st.sampled_from(teams),
        st.sampled_from(prospects),
        st.sampled_from(assignees),
        st.integers(1, 3) if gaps else st.just(1),
        st.booleans() if echoes else st.just(False),
    )
    return st.lists(step, min_size=1, max_size=most).map(_stream)


def adversarial(events: Sequence[Subject], *, doubles: int = 3, bursts: int = 3) -> st.SearchStrategy[Hardship]:
    """``events`` in any order, up to so many of them twice, in up to so many bursts: what comes in a later burst than
    its turn was is late."""
    plain = _events(events)
    twice = st.lists(st.sampled_from(plain), max_size=doubles)
    shuffled = twice.flatmap(lambda again: st.permutations([*plain, *again]))
    cuts = st.lists(st.integers(0, len(plain)), max_size=bursts - 1)
    return st.builds(_cut, shuffled, cuts)


def hardships(events: Sequence[Subject], *, crashes: int = 3) -> st.SearchStrategy[Hardship]:
    """``adversarial``, and the process dies up to so many times."""
    killed = st.frozensets(st.integers(1, len(events) + crashes), max_size=crashes)
    return st.builds(lambda found, after: Hardship(found.bursts, after), adversarial(events), killed)


def plain_and_hard(given_events: Sequence[Subject] | None = None) -> st.SearchStrategy[tuple[Hardship, Hardship]]:
    """A stream, or always the same one, delivered at once and in order; and what may befall it."""
    drawn = streams() if given_events is None else st.just(_events(given_events))
    return drawn.flatmap(lambda events: st.tuples(st.just(Hardship((tuple(events),))), hardships(events)))


def for_each(drawn: st.SearchStrategy[tuple[Any, Hardship]], examples: int, check: Callable[[Any], None]) -> None:
    """``check`` so many draws, the same each time; raises what it raised for the simplest found to fail."""
    failures: list[tuple[tuple[int, int, int], Exception]] = []
    tries, end = 0, inf

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],  # to explain takes hundreds of examples more
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def checked(example: tuple[Any, Hardship]) -> None:
        nonlocal tries, end
        tries += bool(failures)
        if tries > SHRINKS or time.monotonic() > end:
            return  # or it would look for a simpler one for minutes
        try:
            check(example)
        except Exception as error:
            failures.append((example[1].weight, error))
            end = min(end, time.monotonic() + PATIENCE)
            raise

    try:
        checked()
    except BaseException:
        if not failures:
            raise
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1] from None


def _events(subjects: Sequence[Subject]) -> list[Event]:
    return [subject.event if isinstance(subject, AssigneeChange) else subject for subject in subjects]


def _stream(steps: Sequence[tuple[str, str, str | None, int, bool]]) -> list[Event]:
    seqs: dict[str, int] = {}
    now, found = datetime.now(UTC), []
    for place, (team, prospect, assignee, step, echoed) in enumerate(steps):
        seqs[team] = seqs.get(team, 0) + step
        about: dict[str, Any] = {
            "team": team,
            "prospect": f"{team}-{prospect}",
            "at": now + timedelta(milliseconds=place),
        }
        found.append(change(assignee, seq=seqs[team], **about).event)
        if echoed:
            seqs[team] += 1
            named = "thread.unassigned" if assignee is None else "thread.assigned"
            found.append(change(assignee, seq=seqs[team], type=named, **about).event)
    return found


def _cut(events: Sequence[Event], cuts: Sequence[int]) -> Hardship:
    places = sorted({0, len(events), *cuts})
    return Hardship(tuple(tuple(events[a:b]) for a, b in pairwise(places)))
