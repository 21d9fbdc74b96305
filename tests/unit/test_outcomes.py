"""From how a lane ended to what is written about it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import structlog

from tests.runtime_kit import AT_ONCE, claimed, lane, spec_of
from worker.core.handlers import HandlerSpec
from worker.core.retry import Backoff, Failure
from worker.runtime.outcomes import LOST_BODY, LOST_WORKER, settlement_of, unstartable
from worker.runtime.verdict import Failed
from worker.store.lanes import Action, Attempt, Claim, ClaimedJob, Settlement

SPEC = spec_of(lambda change, ctx: None, attempts=3, backoff=AT_ONCE)
NOW = 1_800_000_000_000


def test_the_status_of_the_far_sides_answer_is_logged() -> None:
    for attempt in (1, 3):
        active = lane("a", 1, attempt=attempt)
        active.failed = Failed(Failure(), "Refused", "with private words", "there.py:1", 401)
        active.finished = active.touched = True
        with structlog.testing.capture_logs() as lines:
            settlement_of(active, finished=True, spec=SPEC)
        assert [(line["where"], line["status"]) for line in lines] == [("there.py:1", 401)]


def claim_of(*lanes: Any) -> Claim:
    return Claim(token=1, now=NOW, more=False, next_due=None, lanes=lanes)


BLOCKING = spec_of(lambda change, ctx: None, attempts=3, backoff=AT_ONCE, on_exhausted="block")


def fail(active: Any, spec: HandlerSpec = SPEC, **failure: Any) -> Settlement:
    active.failed = Failed(Failure(**failure), "Oops", "with private words", "there.py:1")
    active.finished = active.touched = True
    made = settlement_of(active, finished=True, spec=spec)
    assert made is not None
    return made


def test_nothing_new_is_nothing_to_write() -> None:
    active = lane("a", 1, 2)
    assert settlement_of(active, finished=False, spec=SPEC) is None


def test_what_ended_meanwhile_is_settled_and_the_rest_held() -> None:
    active = lane("a", 1, 2, 3, 4)
    active.done, active.settled = 1, (1, 0)
    active.discard()
    active.done += 1
    assert settlement_of(active, finished=False, spec=SPEC) == Settlement(1, "a", 1, 1, Action.HOLD, ended="xd")


def test_a_lane_that_is_through_is_let_go() -> None:
    active = lane("a", 1, 2)
    active.done, active.touched = 2, True
    assert settlement_of(active, finished=True, spec=SPEC) == Settlement(1, "a", 2, 0, Action.RELEASE)


def test_a_group_handed_back_unstarted_is_just_let_go() -> None:
    assert settlement_of(lane("a", 1, 2), finished=True, spec=SPEC) == Settlement(1, "a")


def test_a_single_job_handed_back_unstarted_gets_its_attempt_back() -> None:
    settled = settlement_of(lane("a", 1, attempt=3), finished=True, spec=SPEC)
    assert settled is not None
    assert (settled.action, settled.attempts, settled.delay_ms) == (Action.RETURN, 2, 0)


@pytest.mark.parametrize(("attempt", "action"), [(0, "retry"), (1, "retry"), (2, "retry"), (3, "bury"), (4, "bury")])
def test_attempts_run_out(attempt: int, action: str) -> None:
    assert fail(lane("a", 1, attempt=attempt)).action == action


def test_a_failure_after_good_jobs_is_a_first_attempt() -> None:
    """The attempts before were those of the job that is done now."""
    active = lane("a", 1, 2)
    active.done = 1
    made = fail(active)
    assert (made.done, made.attempts, made.action) == (1, 1, Action.RETRY)
    assert [attempt.number for attempt in made.failed] == [1]


def test_a_permanent_failure_is_buried_at_once() -> None:
    made = fail(lane("a", 1), permanent=True)
    assert (made.action, made.attempts, made.error, made.text) == (Action.BURY, 1, "Oops", "with private words")


def test_the_delay_asked_for_is_given() -> None:
    assert fail(lane("a", 1), after=2.5).delay_ms == 2500


def test_no_delay_is_longer_than_a_day() -> None:
    assert fail(lane("a", 1), after=float("inf")).delay_ms == 86_400_000


def test_backoff_grows_with_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)
    spec = spec_of(print, attempts=10, backoff=Backoff(base=1.0, cap=5.0))
    delays = []
    for attempt in range(1, 6):
        active = lane("a", 1, attempt=attempt)
        active.failed = Failed(Failure(), "E", "", "")
        made = settlement_of(active, finished=True, spec=spec)
        assert made is not None
        delays.append(made.delay_ms)
    assert delays == [1000, 2000, 4000, 5000, 5000]


def test_a_job_that_killed_its_process_once_too_often_is_buried_unstarted() -> None:
    poison = claimed("a", 1, attempt=4, crashed=True, failed=[Attempt(1, 5, "E", "e")])
    made = unstartable(poison, claim_of(poison), SPEC)
    assert made is not None
    assert (made.action, made.error, made.attempts) == (Action.BURY, LOST_WORKER, 3)
    assert [(attempt.number, attempt.error) for attempt in made.failed] == [
        (1, "E"),
        (2, LOST_WORKER),
        (3, LOST_WORKER),
    ]


@pytest.mark.parametrize(("attempt", "action"), [(2, Action.RETRY), (3, Action.BLOCK), (4, Action.BLOCK)])
def test_a_lane_that_may_not_skip_a_job_is_blocked_when_its_attempts_run_out(attempt: int, action: Action) -> None:
    with structlog.testing.capture_logs() as lines:
        made = fail(lane("a", 1, 2, attempt=attempt), BLOCKING)
    assert (made.action, made.attempts, made.failed[-1].number) == (action, attempt, attempt)
    assert [line["event"] for line in lines] == ["attempt_failed" if action is Action.RETRY else "lane_blocked"]
    if action is Action.BLOCK:
        assert made.error == "Oops"
    assert "private" not in json.dumps(lines)


def test_what_was_done_before_the_job_that_blocks_leaves_the_lane() -> None:
    once = spec_of(print, attempts=1, on_exhausted="block")
    active = lane("a", 1, 2, 3)
    active.done, active.discarded, active.settled = 1, 1, (1, 0)
    made = fail(active, once)
    assert (made.done, made.discarded, made.action, made.attempts) == (0, 1, Action.BLOCK, 1)


def test_a_permanent_failure_blocks_nothing() -> None:
    assert fail(lane("a", 1), BLOCKING, permanent=True).action is Action.BURY


def test_a_job_that_killed_its_process_once_too_often_blocks_its_lane_where_none_may_be_skipped() -> None:
    poison = claimed("a", 1, attempt=4, crashed=True)
    with structlog.testing.capture_logs() as lines:
        made = unstartable(poison, claim_of(poison), BLOCKING)
    assert made is not None
    assert (made.action, made.error, made.attempts, len(made.failed)) == (Action.BLOCK, LOST_WORKER, 3, 3)
    assert [line["event"] for line in lines] == ["lane_blocked"]


def test_an_event_whose_body_is_gone_blocks_nothing() -> None:
    lost = claimed("a", 1)
    found = type(lost)("a", 0, crashed=False, failed=(), jobs=[ClaimedJob(lost.jobs[0].job, b"", "a")])
    made = unstartable(found, claim_of(found), BLOCKING)
    assert made is not None
    assert made.action is Action.BURY


@pytest.mark.parametrize("attempt", [0, 1, 2, 3])
def test_a_job_with_attempts_left_is_started_again_after_a_crash(attempt: int) -> None:
    found = claimed("a", 1, attempt=attempt, crashed=True)
    assert unstartable(found, claim_of(found), SPEC) is None


def test_a_job_that_nobody_died_of_is_started_though_fewer_attempts_are_allowed_now() -> None:
    """After a deployment with a lower ``attempts=``: its end is then decided by how the call ends."""
    found = claimed("a", 1, attempt=9)
    assert unstartable(found, claim_of(found), SPEC) is None


def test_an_event_whose_body_is_gone_is_buried() -> None:
    found = claimed("a", 1, 2)
    lost = claimed("a", 1).jobs[0]
    found = type(found)("a", 0, crashed=False, failed=(), jobs=[ClaimedJob(lost.job, b"", None)])
    made = unstartable(found, claim_of(found), SPEC)
    assert made is not None
    assert (made.action, made.error) == (Action.BURY, LOST_BODY)


def test_attempts_lost_with_their_processes_are_in_the_history_once() -> None:
    crashed = claimed("a", 1, attempt=2, crashed=True)
    active = type(lane("a", 1))(crashed, 1)
    made = fail(active)
    assert [(attempt.number, attempt.error) for attempt in made.failed] == [(1, LOST_WORKER), (2, "Oops")]
    again = claimed("a", 1, attempt=3, failed=made.failed)
    made = fail(type(active)(again, 1))
    assert [attempt.number for attempt in made.failed] == [1, 2, 3]


def test_an_errors_text_is_stored_and_never_logged() -> None:
    with structlog.testing.capture_logs() as lines:
        made = fail(lane("a", 1, attempt=1))
        fail(lane("a", 1, attempt=3))
    assert made.failed[-1].text == "with private words"
    assert [line["event"] for line in lines] == ["attempt_failed", "dead_letter"]
    assert "private" not in json.dumps(lines)
    assert all(line["event_id"] == "a-1" and line["error"] == "Oops" for line in lines)
