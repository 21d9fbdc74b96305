"""From how a lane's run ended to what is written about it. The decision itself is core's (core/retry.py)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from worker.core.envelope import Unreadable, read
from worker.core.handlers import HandlerSpec
from worker.core.retry import AFTER_MAX, Block, Failure, GiveUp, RetryIn, decide, out_of_attempts
from worker.runtime.calls import ActiveLane
from worker.store.lanes import Action, Attempt, Claim, ClaimedJob, ClaimedLane, Settlement

LOST_WORKER: Final = "WorkerLost"
LOST_BODY: Final = "BodyLost"
PATIENCE_MS: Final = 24 * 3600 * 1000
"""So long failures of one job are not counted while the handler's circuit is not closed; then they are, or a job that
is alone and can only fail would be tried for ever."""

Draw = Callable[[], float]

log = structlog.get_logger("handoff.runner")


def unstartable(claimed: ClaimedLane, claim: Claim, spec: HandlerSpec) -> Settlement | None:
    """The end of a lane's first job that must not be started again, or None for one that can be.

    A job that took its process with it was never settled, so its end is found out here, at the next claim.
    """
    if claimed.crashed and claimed.attempt > spec.attempts:
        end = out_of_attempts(block=spec.on_exhausted == "block")
        error, text = LOST_WORKER, f"the process died, or hung, in each of {claimed.attempt - 1} attempts or the last"
        attempts = claimed.attempt - 1
    elif not claimed.jobs[0].body:
        end = GiveUp("permanent")
        error, text = LOST_BODY, "the event's body is not in the inbox any more"
        attempts = 0
    else:
        return None
    return _ended(
        end,
        spec,
        claimed.jobs[0],
        Settlement(
            claim.token,
            claimed.lane,
            attempts=attempts,
            failed=history(claimed, claim.now),
            error=error,
            text=text,
        ),
    )


def settlement_of(
    lane: ActiveLane,
    *,
    finished: bool,
    spec: HandlerSpec,
    away_ms: int | None = None,
    draw: Draw | None = None,
) -> Settlement | None:
    """What to write of a lane now: None while nothing new has ended.

    ``away_ms``: the handler's circuit is not closed, and a lane whose call failed stays away for so long. ``draw``
    gives the jitter of a backoff, from 0 to 1; default ``random.random``.
    """
    done = lane.done - lane.settled[0]
    discarded = lane.discarded - lane.settled[1]
    claimed = lane.claimed
    if not finished:
        if done + discarded == 0:
            return None
        return Settlement(lane.token, claimed.lane, done, discarded, Action.HOLD, ended=_letters(lane, done, discarded))
    if lane.failed is not None:
        return _after_failure(lane, done, discarded, spec, away_ms=away_ms, draw=draw)
    if lane.cut:
        return cut_off(lane, _letters(lane, done, discarded) or "d" * done + "x" * discarded, spec)
    if not lane.touched and claimed.attempt > 0:
        # Handed back unstarted: the attempt that claiming counted did not take place.
        return Settlement(
            lane.token,
            claimed.lane,
            action=Action.RETURN,
            attempts=claimed.attempt - 1,
            failed=history(claimed, int(time.time() * 1000)),
        )
    return Settlement(lane.token, claimed.lane, done, discarded, Action.RELEASE, ended=_letters(lane, done, discarded))


def cut_off(lane: ActiveLane, ended: str, spec: HandlerSpec) -> Settlement:
    """The process has to end, and a call with it, of which nobody knows whether it took effect: it is not counted, but
    what conflation must not do to jobs that may have been begun, it may not do to these (core/conflation.py)."""
    first = lane.done + lane.discarded == 0
    return Settlement(
        lane.token,
        lane.claimed.lane,
        action=Action.APART if spec.conflate else Action.RETURN,
        attempts=max(0, lane.claimed.attempt - 1) if first else 0,
        failed=history(lane.claimed, int(time.time() * 1000)) if first else (),
        ended=ended,
    )


def _letters(lane: ActiveLane, done: int, discarded: int) -> str:
    """How the jobs at the lane's head ended, where not all ended alike: the books say of each what became of it."""
    if not (done and discarded):
        return ""
    first = sum(lane.settled)
    letters = ["d"] * (done + discarded)
    for at in lane.discards:
        if first <= at < first + len(letters):
            letters[at - first] = "x"
    return "".join(letters)


def _after_failure(
    lane: ActiveLane, done: int, discarded: int, spec: HandlerSpec, *, away_ms: int | None, draw: Draw | None
) -> Settlement:
    failed, claimed = lane.failed, lane.claimed
    assert failed is not None
    at = lane.done + lane.discarded
    job = claimed.jobs[at]
    attempt = max(1, claimed.attempt) if at == 0 else 1
    now = int(time.time() * 1000)
    before = history(claimed, now) if at == 0 else []
    since = excused_since(before)
    outcome, counted = decided(attempt, failed.failure, spec, away_ms=away_ms, since=since, now=now, draw=draw)
    failures = [known for known in before if known.number < attempt]
    failures.append(Attempt(attempt, now, failed.error, failed.text, since if counted else since or now))
    if not isinstance(outcome, RetryIn):
        made = Settlement(
            lane.token,
            claimed.lane,
            done,
            discarded,
            attempts=attempt,
            failed=failures,
            error=failed.error,
            text=failed.text,
            ended=_letters(lane, done, discarded),
        )
        return _ended(outcome, spec, job, made, **failed.hints)
    log.warning(
        "attempt_failed",
        handler=spec.name,
        lane=claimed.lane,
        event_id=event_id(job),
        attempt=attempt,
        counted=counted,
        error=failed.error,
        retry_in=round(outcome.delay, 3),
        **failed.hints,
    )
    return Settlement(
        lane.token,
        claimed.lane,
        done,
        discarded,
        Action.RETRY,
        delay_ms=int(outcome.delay * 1000),
        attempts=attempt if counted else attempt - 1,
        failed=failures,
        ended=_letters(lane, done, discarded),
    )


def decided(
    attempt: int,
    failure: Failure,
    spec: HandlerSpec,
    *,
    away_ms: int | None,
    since: int,
    now: int,
    draw: Draw | None = None,
) -> tuple[RetryIn | GiveUp | Block, bool]:
    """What to do about a failure, and whether it is counted. ``since``: server ms from which this job's are not."""
    if away_ms is not None and excusable(failure) and not (since > 0 and now - since >= PATIENCE_MS):
        return RetryIn(max(away_ms / 1000, min(failure.after or 0.0, AFTER_MAX))), False
    block = spec.on_exhausted == "block"
    return decide(attempt, spec.attempts, spec.backoff, failure, draw or random.random, block=block), True


def excused_since(failures: Sequence[Attempt]) -> int:
    """Since when a job's failures have not been counted, server ms; 0 if they are."""
    return min((known.since for known in failures if known.since), default=0)


def excusable(failure: Failure) -> bool:
    """Whether it may be the outage's doing, and not the job's or its handler's wish."""
    return failure.outage or not (failure.permanent or failure.asked)


def history(claimed: ClaimedLane, now: int) -> list[Attempt]:
    """The failed attempts of a lane's first job, with those that its owners did not live to write down: of these only
    the last is known to have ended just now."""
    failed, tried = list(claimed.failed), claimed.jobs[0].job.tried
    last = failed[-1].number if failed else tried
    text = "the process died or hung, and its lease ran out"
    end = claimed.attempt + tried
    return failed + [
        Attempt(number, now if number == end - 1 else 0, LOST_WORKER, text) for number in range(last + 1, end)
    ]


def _ended(end: GiveUp | Block, spec: HandlerSpec, job: ClaimedJob, made: Settlement, **hints: object) -> Settlement:
    """The settlement of a job that is not tried again, which is said aloud: a person has to look at it."""
    blocks = isinstance(end, Block)
    log.error(
        "lane_blocked" if blocks else "dead_letter",
        handler=spec.name,
        lane=made.lane,
        event_id=event_id(job),
        attempts=made.attempts,
        error=made.error,
        **hints,
    )
    return replace(made, action=Action.BLOCK if blocks else Action.BURY)


def event_id(job: ClaimedJob) -> str | None:
    try:
        return read(job.body, job.team).id
    except Unreadable:
        return None
