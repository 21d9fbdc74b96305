"""From how a lane's part of a batch call ended to what is written about it. Decided by core (core/batches.py)."""

from __future__ import annotations

import time
from dataclasses import replace

import structlog

from worker.core.batches import Apart, Conclusion, Decided, Ended, conclude
from worker.core.handlers import HandlerSpec
from worker.core.retry import Failure
from worker.runtime.calls import ActiveLane
from worker.runtime.outcomes import Draw, cut_off, decided, event_id, excused_since, history
from worker.runtime.verdict import Failed
from worker.store.lanes import Action, Attempt, Dead, Settlement

log = structlog.get_logger("handoff.runner")


def settle_batch(
    lane: ActiveLane,
    *,
    finished: bool,
    spec: HandlerSpec,
    away_ms: int | None = None,
    draw: Draw | None = None,
) -> Settlement | None:
    """What to write of a lane of a batch handler now: None while nothing new has ended. Notes what was told.

    ``away_ms`` and ``draw``: as for ``settlement_of``.
    """
    ended = lane.ended[lane.sent :]
    lane.sent = len(lane.ended)
    if not finished:
        return Settlement(lane.token, lane.claimed.lane, ended=ended, action=Action.HOLD) if ended else None
    if lane.called:
        return _after_failure(lane, ended, spec, away_ms, draw)
    if lane.cut:
        return cut_off(lane, ended, spec)
    return Settlement(lane.token, lane.claimed.lane, ended=ended)


def _after_failure(
    lane: ActiveLane, ended: str, spec: HandlerSpec, away_ms: int | None, draw: Draw | None
) -> Settlement:
    first = len(lane.ended)
    now = int(time.time() * 1000)
    since = 0 if first else excused_since(lane.claimed.failed)

    def decide(attempt: int, failure: Failure) -> Decided:
        return Decided(*decided(attempt, failure, spec, away_ms=away_ms, since=since, now=now, draw=draw))

    concluded = conclude(
        [item for item, _ in lane.called],
        [outcome if isinstance(outcome, Ended) else outcome.failure for _, outcome in lane.called],
        decide,
        newest_only=spec.on is None and spec.late == "skip_stale",
        together=lane.together,
    )
    if isinstance(concluded, Apart):
        return _apart(lane, ended, spec, now)
    dead = [_dead(lane, first + at, now, spec) for at, letter in enumerate(concluded.letters) if letter == "D"]
    written = Settlement(lane.token, lane.claimed.lane, ended=ended + concluded.letters, dead=dead)
    return written if concluded.stays is None else _stays(lane, concluded, written, spec, now)


def _stays(lane: ActiveLane, concluded: Conclusion, written: Settlement, spec: HandlerSpec, now: int) -> Settlement:
    """``written``, and that its first job that stays is tried again or blocks the lane."""
    claimed = lane.claimed
    assert concluded.stays is not None
    at = len(lane.ended) + concluded.stays
    failure, attempt = _failure(lane, at)
    log.log(
        40 if concluded.blocks else 30,
        "lane_blocked" if concluded.blocks else "attempt_failed",
        handler=spec.name,
        lane=claimed.lane,
        event_id=event_id(claimed.jobs[at]),
        attempt=attempt,
        counted=concluded.counted,
        error=failure.error,
        **failure.hints,
        **({} if concluded.blocks else {"retry_in": round(concluded.delay, 3)}),
        also=sum(concluded.letters.count(letter) for letter in ".-+oO") - 1,
    )
    return replace(
        written,
        action=Action.BLOCK if concluded.blocks else Action.RETRY,
        delay_ms=int(concluded.delay * 1000),
        # What its own text counts (core/jobs.py) is not counted with the lane.
        attempts=attempt - claimed.jobs[at].job.tried - (not concluded.counted),
        failed=_history(lane, at, now, counted=concluded.counted),
        error=failure.error,
        text=failure.text,
    )


def _apart(lane: ActiveLane, ended: str, spec: HandlerSpec, now: int) -> Settlement:
    """Nothing but the call has failed: nobody's attempt was one."""
    claimed, first = lane.claimed, len(lane.ended)
    failure, _ = _failure(lane, first)
    log.warning(
        "batch_failed",
        handler=spec.name,
        lane=claimed.lane,
        changes=len(lane.called),
        error=failure.error,
        **failure.hints,
    )
    return Settlement(
        lane.token,
        claimed.lane,
        action=Action.APART,
        attempts=max(0, claimed.attempt - 1) if first == 0 else 0,
        failed=history(claimed, now) if first == 0 else (),
        ended=ended,
    )


def _dead(lane: ActiveLane, at: int, now: int, spec: HandlerSpec) -> Dead:
    failure, attempt = _failure(lane, at)
    log.error(
        "dead_letter",
        handler=spec.name,
        lane=lane.claimed.lane,
        event_id=event_id(lane.claimed.jobs[at]),
        attempts=attempt,
        error=failure.error,
        **failure.hints,
    )
    return Dead(attempt, _history(lane, at, now), failure.error, failure.text)


def _failure(lane: ActiveLane, at: int) -> tuple[Failed, int]:
    """Of a job that failed: how, and the number of its attempt."""
    item, outcome = lane.called[at - len(lane.ended)]
    assert isinstance(outcome, Failed)
    return outcome, item.attempt


def _history(lane: ActiveLane, at: int, now: int, *, counted: bool = True) -> list[Attempt]:
    """The failed attempts of a job, this one last. Of those that it had behind others only the number is known."""
    failure, attempt = _failure(lane, at)
    before = history(lane.claimed, now) if at == 0 else []
    since = excused_since(before)
    known = [each for each in before if each.number < attempt]
    return [*known, Attempt(attempt, now, failure.error, failure.text, since if counted else since or now)]
