"""What becomes of a failed attempt: another one later, the dead letters, or a lane that waits for a person. A pure
decision over a table of cases.

Backoff is exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): after the n-th
failure the delay is drawn evenly from 0 to ``min(cap, base * 2**(n-1))``, so that lanes which failed together do not
come back together. A handler that names its own delay, with ``Retry(after=...)``, is obeyed, up to ``AFTER_MAX``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

AFTER_MAX: Final = 24 * 3600.0  # seconds
LEAST: Final = 0.05  # seconds; a drawn delay of nearly nothing would be a hot loop


@dataclass(frozen=True, slots=True)
class Backoff:
    """``base`` and ``cap`` of the delay between attempts, seconds."""

    base: float = 1.0
    cap: float = 300.0

    def ceiling(self, attempt: int) -> float:
        """The longest delay after the ``attempt``-th failure (from 1)."""
        return float(min(self.cap, self.base * 2.0 ** min(attempt - 1, 62)))


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try again ``delay`` seconds from now."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """To the dead letters, for ``reason``: ``exhausted`` or ``permanent``."""

    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """The job stays, and nothing behind it is begun until a person says so, for ``reason``: ``exhausted``."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as the decision needs it. ``after`` is the delay that the handler or the far side asked for.
    ``asked``: the handler itself said to try again. ``outage``: the far side's trouble and not this job's, so that
    other jobs would fail by it too (core/failures.py).
    """

    permanent: bool = False
    after: float | None = None
    outage: bool = False
    asked: bool = False


def decide(
    attempt: int,
    attempts: int,
    backoff: Backoff,
    failure: Failure,
    random: Callable[[], float],
    *,
    block: bool = False,
) -> RetryIn | GiveUp | Block:
    """What to do after call ``attempt`` (from 1) of ``attempts`` failed. ``random`` gives numbers from 0 to 1.

    ``block``: what runs out of attempts is not given up, for what is behind it must not come first. A permanent failure
    is: that another attempt would not help has been said, by the handler or by the far side's answer.
    """
    if failure.permanent:
        return GiveUp("permanent")
    if attempt >= attempts:
        return out_of_attempts(block=block)
    if failure.after is not None:
        return RetryIn(min(max(failure.after, 0.0), AFTER_MAX))
    return RetryIn(max(LEAST, random() * backoff.ceiling(attempt)))


def out_of_attempts(*, block: bool) -> GiveUp | Block:
    """What becomes of a job that had all its attempts, or took its process with it in each."""
    return Block("exhausted") if block else GiveUp("exhausted")
