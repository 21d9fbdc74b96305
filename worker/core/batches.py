"""What becomes of one lane's jobs after a call that had several of them. Pure.

A call answers for each of its changes: done, discarded or failed. Within a lane that may end in any order, so a job
that failed can stay while later ones leave:

- What is done or discarded leaves, wherever it stands, and is never called again.
- What failed is tried again, given up or blocks its lane, each by its own attempts. A later job that stays waits for
  the first one, so it is not called again before that has left.
- A change that would have to be tried again after a newer one of its prospect was done has been overtaken: to call it
  again would undo the newer one. It is discarded; or, for a handler that asks for everything, marked as late and stale.
- A call that failed as a whole says nothing of the single one. If it was not the far side's trouble, or if somebody's
  last attempt went with it, its jobs come again one by one (``Apart``), and nobody is given up before.

The store counts the attempts of a lane's first job. Of a failed job behind it they are counted in its own text
(core/jobs.py), so that each has exactly as many as its handler allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from worker.core.retry import AFTER_MAX, Block, Failure, GiveUp, RetryIn


class Ended(Enum):
    """How a job ended well: the letter that settling takes for it."""

    DONE = "d"
    DISCARDED = "x"


class Item(NamedTuple):
    """A job as it was called. ``attempt`` is the number of this call, from 1. ``key``: what a newer one of the same
    overtakes, None: nothing does. ``newest``: it overtakes older ones, as everything does but what is stale itself."""

    attempt: int
    key: str | None
    newest: bool = True


class Decided(NamedTuple):
    """What to do about a failure. ``counted``: whether the attempt is one of those that the handler allows."""

    end: RetryIn | GiveUp | Block
    counted: bool = True


Decide = Callable[[int, Failure], Decided]
"""(number of the attempt, failure) -> what to do."""


@dataclass(frozen=True, slots=True)
class Apart:
    """All jobs of the call stay as they are, and come again one by one."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What to write. ``letters``, one for each job (store/lua/settle.lua):

    ``d`` done, ``x`` discarded, ``D`` given up; and of those that stay: ``.`` as it was, ``+`` with one more attempt,
    ``-`` with one that is not counted, ``o`` overtaken from now on, ``O`` overtaken and with one more.

    ``stays`` is the first that stays, None where none does; ``counted`` is whether its attempt was. Then the lane is
    due after ``delay`` seconds, or ``blocks``.
    """

    letters: str
    stays: int | None = None
    counted: bool = True
    blocks: bool = False
    delay: float = 0.0


def conclude(
    items: Sequence[Item],
    outcomes: Sequence[Ended | Failure],
    decide: Decide,
    *,
    newest_only: bool,
    together: bool = False,
) -> Conclusion | Apart:
    """After a call. ``newest_only``: what was overtaken is discarded. ``together``: the call had more than one job, of
    whatever lanes, and failed as a whole."""
    if together and any(isinstance(outcome, Failure) and blames_one(outcome) for outcome in outcomes):
        return Apart()
    letters: list[str] = []
    ends: dict[int, Decided] = {}
    overtakes: set[str] = set()
    for at in range(len(items) - 1, -1, -1):
        outcome, (attempt, key, newest) = outcomes[at], items[at]
        if isinstance(outcome, Ended):
            letters.append(outcome.value)
            if outcome is Ended.DONE and newest and key is not None:
                overtakes.add(key)
            continue
        decided, overtaken = decide(attempt, outcome), key in overtakes
        if together and not isinstance(decided.end, RetryIn):
            return Apart()
        if isinstance(decided.end, GiveUp):
            letters.append("D")
        elif overtaken and newest_only:
            letters.append(Ended.DISCARDED.value)
        else:
            ends[at] = decided
            letters.append(("-+", "oO")[overtaken][decided.counted])
    letters.reverse()
    if not ends:
        return Conclusion("".join(letters))
    stays = min(ends)
    # The attempts of a lane's first job are counted with the lane.
    letters[stays] = {"+": ".", "-": ".", "O": "o"}.get(letters[stays], letters[stays])
    first = ends[stays]
    if not isinstance(first.end, RetryIn):
        return Conclusion("".join(letters), stays, first.counted, blocks=True)
    # The whole lane waits, so for as long as any of them was told to; but not for another's mere backoff.
    told = [outcomes[at] for at in ends if at != stays]
    after = [min(each.after, AFTER_MAX) for each in told if isinstance(each, Failure) and each.after is not None]
    return Conclusion("".join(letters), stays, first.counted, delay=max(first.end.delay, *after, 0.0))


def blames_one(failure: Failure) -> bool:
    """Whether what failed a whole call may be the fault of one job in it: neither the far side's nor as it was told."""
    return failure.permanent or not (failure.outage or failure.asked)
