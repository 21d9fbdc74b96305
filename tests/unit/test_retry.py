"""What becomes of a failed attempt: the table of cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.retry import AFTER_MAX, LEAST, Backoff, Block, Failure, GiveUp, RetryIn, decide

BACKOFF = Backoff(base=2.0, cap=60.0)
PLAIN, PERMANENT, SOON = Failure(), Failure(permanent=True), Failure(after=7.0)


@pytest.mark.parametrize(
    ("attempt", "attempts", "failure", "outcome"),
    [
        (1, 1, PLAIN, GiveUp("exhausted")),
        (1, 1, SOON, GiveUp("exhausted")),
        (1, 1, PERMANENT, GiveUp("permanent")),
        (1, 2, PLAIN, RetryIn(2.0)),
        (2, 2, PLAIN, GiveUp("exhausted")),
        (3, 11, PLAIN, RetryIn(8.0)),
        (6, 11, PLAIN, RetryIn(60.0)),
        (10, 11, PLAIN, RetryIn(60.0)),
        (11, 11, PLAIN, GiveUp("exhausted")),
        (10**6, 10**7, PLAIN, RetryIn(60.0)),
        (1, 11, PERMANENT, GiveUp("permanent")),
        (1, 11, Failure(permanent=True, after=5), GiveUp("permanent")),
        (11, 11, PERMANENT, GiveUp("permanent")),
        (1, 11, SOON, RetryIn(7.0)),
        (10, 11, SOON, RetryIn(7.0)),
        (1, 11, Failure(after=0), RetryIn(0.0)),
        (1, 11, Failure(after=-3), RetryIn(0.0)),
        (1, 11, Failure(after=10**9), RetryIn(AFTER_MAX)),
        (1, 11, Failure(after=math.inf), RetryIn(AFTER_MAX)),
    ],
)
def test_the_outcome_of_an_attempt(attempt: int, attempts: int, failure: Failure, outcome: RetryIn | GiveUp) -> None:
    """With the draw at its highest, so that the delay is the ceiling."""
    assert decide(attempt, attempts, BACKOFF, failure, lambda: 1.0) == outcome


@pytest.mark.parametrize(
    ("attempt", "failure", "outcome"),
    [
        (2, PLAIN, RetryIn(4.0)),
        (3, PLAIN, Block("exhausted")),
        (4, SOON, Block("exhausted")),
        (1, PERMANENT, GiveUp("permanent")),
        (3, PERMANENT, GiveUp("permanent")),
    ],
)
def test_a_lane_that_may_not_skip_a_job_is_blocked_when_its_attempts_run_out(
    attempt: int, failure: Failure, outcome: RetryIn | GiveUp | Block
) -> None:
    assert decide(attempt, 3, BACKOFF, failure, lambda: 1.0, block=True) == outcome


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_delay_is_drawn_from_nearly_nothing_to_the_ceiling(
    attempt: int, drawn: float, base: float, cap: float
) -> None:
    backoff = Backoff(base, cap)
    outcome = decide(attempt, attempt + 1, backoff, PLAIN, lambda: drawn)
    assert isinstance(outcome, RetryIn)
    assert LEAST <= outcome.delay <= max(LEAST, min(cap, base * 2.0 ** (attempt - 1)))


def test_the_jitter_is_full_so_that_lanes_which_failed_together_do_not_come_back_together() -> None:
    delays = [decide(4, 11, BACKOFF, PLAIN, lambda drawn=drawn: drawn) for drawn in (0.0, 0.25, 0.5, 1.0)]  # type: ignore[misc]
    assert delays == [RetryIn(LEAST), RetryIn(4.0), RetryIn(8.0), RetryIn(16.0)]
