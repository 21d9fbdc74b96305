"""Runs a handler on changes by the real rules and without a server: ``run`` once, ``run_to_end`` until nothing is left.

Calls are made by the executors of the runner (runtime/executors.py, runtime/batch_executors.py), and what becomes of a
job is what would be written of it (runtime/outcomes.py). Only the store is missing: of the lanes there is here what it
takes to know which job's turn it is. What concerns several lanes or the past of one, conflation, duplicates, late
events, is for the fixture (plugin.py), which has a server.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, overload

from worker.core.batches import Ended
from worker.core.changes import Change
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import HandlerSpec
from worker.core.jobs import Job, Joint
from worker.core.lanes import escaped, lane_of
from worker.runtime.batch_executors import batch_executor_for
from worker.runtime.batch_outcomes import settle_batch
from worker.runtime.calls import ActiveLane
from worker.runtime.executors import Executor, executor_for
from worker.runtime.outcomes import settlement_of
from worker.runtime.verdict import Failed
from worker.store.lanes import Action, ClaimedJob, ClaimedLane, Settlement
from worker.testing.calls import Call, Handler, Subject, observed, spec_of
from worker.testing.timer import timer_kept

Kind = Literal["done", "discarded", "retry", "dead_letter", "blocked", "waiting", "ignored"]

HANGS: Final = 3.0  # seconds over its time limit after which a call is taken for one that nothing interrupts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change in one run.

    ``kind`` is one of

    - ``done``
    - ``discarded``: by ``when``, by ``Discard``, or because a newer change of its prospect was done
    - ``retry``: again ``after`` seconds; where the backoff draws that, the longest that it may draw
    - ``dead_letter``
    - ``blocked``: out of attempts, with ``on_exhausted="block"``
    - ``waiting``: behind a change of its lane that is not over
    - ``ignored``: the handler does not get such changes at all

    ``error`` is the class of the error, as ``handoff dead list`` shows it, and ``text`` what it says. ``calls`` are
    those that it was in.

    ``counted`` is False where a batch is to be called once more, change by change: no attempt of any has failed.
    ``at`` is when, in seconds since ``run_to_end`` began.
    """

    kind: Kind
    attempt: int = 0
    after: float | None = None
    error: str | None = None
    text: str = field(default="", repr=False)
    calls: tuple[Call, ...] = field(default=(), repr=False)
    counted: bool = True
    at: float = 0.0

    @property
    def exception(self) -> BaseException | None:
        """What the last call raised."""
        return self.calls[-1].exception if self.calls else None


@dataclass(frozen=True, slots=True)
class Journey:
    """All that became of one change: ``attempts`` in order. The rest is of the last of them."""

    attempts: tuple[Outcome, ...]

    @property
    def last(self) -> Outcome:
        return self.attempts[-1]

    @property
    def kind(self) -> Kind:
        return self.last.kind

    @property
    def error(self) -> str | None:
        return self.last.error

    @property
    def took(self) -> float:
        """Seconds from the beginning to the last attempt, by a clock that does not let anybody wait."""
        return self.last.at

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(call for outcome in self.attempts for call in outcome.calls)


@overload
def run(handler: Handler, subject: Subject, /, *, attempt: int = 1) -> Outcome: ...


@overload
def run(handler: Handler, subjects: Sequence[Subject], /, *, attempt: int = 1) -> list[Outcome]: ...


def run(handler: Handler, subjects: Subject | Sequence[Subject], /, *, attempt: int = 1) -> Outcome | list[Outcome]:
    """Run a handler, by name or function, on a change (answers with its outcome) or on several (a list of them).

    ``attempt`` is the number that the call has. Several are run as they would wait in lanes, in order; those behind one
    that is not over are ``waiting``. A batch handler gets them in as few calls as it allows.
    """
    if attempt < 1:
        raise ValueError("attempts are counted from 1")
    road = _Road(handler, _several(subjects), attempt - 1)
    road.go(0.0)
    found = [job.attempts[-1] if job.attempts else Outcome("waiting") for job in road.jobs]
    return found[0] if isinstance(subjects, AssigneeChange | Event) else found


@overload
def run_to_end(handler: Handler, subject: Subject, /) -> Journey: ...


@overload
def run_to_end(handler: Handler, subjects: Sequence[Subject], /) -> list[Journey]: ...


def run_to_end(handler: Handler, subjects: Subject | Sequence[Subject], /) -> Journey | list[Journey]:
    """Run a handler on a change, or on several, as often as it takes until each is over. Nobody waits: the time between
    attempts passes on a clock of its own (``Outcome.at``)."""
    road = _Road(handler, _several(subjects), 0)
    now: float | None = 0.0
    while now is not None:
        road.go(now)
        now = min((lane.due for lane in road.lanes if lane.jobs and not lane.blocked), default=None)
    found = [Journey(tuple(job.attempts) or (Outcome("waiting"),)) for job in road.jobs]
    return found[0] if isinstance(subjects, AssigneeChange | Event) else found


def _several(subjects: Subject | Sequence[Subject]) -> Sequence[Subject]:
    return [subjects] if isinstance(subjects, AssigneeChange | Event) else subjects


@dataclass(slots=True)
class _Job:
    """``made`` counts the attempts that failed. ``late`` and ``change``: as it would be written in its lane."""

    event: Event
    change: Change | None
    absorbed: tuple[str, ...]
    late: bool
    made: int
    attempts: list[Outcome] = field(default_factory=list)

    def claimed(self, *, tried: int) -> ClaimedJob:
        envelope, change, joint = self.event.envelope, self.change, None
        if change is not None and self.absorbed:
            joint = Joint(change.previous, envelope.assignee, envelope.prospect or "", envelope.id, self.absorbed)
        raw = self.event.raw
        job = Job("0-0", False, len(raw), envelope.seq, self.late, change, joint, tried)
        return ClaimedJob(job, raw, self.event.team_id)


@dataclass(slots=True)
class _Lane:
    """What of a lane is left. ``alone``: so many of its jobs come one by one, in calls without others."""

    name: str
    jobs: list[_Job] = field(default_factory=list)
    due: float = 0.0
    blocked: bool = False
    troubled: bool = False
    alone: int = 0


class _Road:
    """The lanes of one handler, without a store."""

    def __init__(self, handler: Handler, subjects: Sequence[Subject], made: int) -> None:
        self._calls: list[Call] = []
        self._spec = observed(spec_of(handler), self._calls)
        self.jobs = [_job(subject, made) for subject in subjects]
        lanes: dict[str, _Lane] = {}
        for place, job in enumerate(self.jobs):
            envelope = job.event.envelope
            if not self._spec.wants(envelope.type, job.change):
                job.attempts.append(Outcome("ignored"))
                continue
            name = lane_of(self._spec.order_by, escaped(job.event.team_id), envelope.prospect, f"{place}-0")
            lanes.setdefault(name, _Lane(name)).jobs.append(job)
        self.lanes = list(lanes.values())

    def go(self, now: float) -> None:
        """Run whatever is due."""
        due = [lane for lane in self.lanes if lane.jobs and not lane.blocked and lane.due <= now]
        if not self._spec.batch:
            for lane in due:
                while lane.jobs and self._one(lane, now):
                    pass
            return
        for lane in due:
            if lane.alone:
                self._batches([lane], now)
        others = [lane for lane in due if not lane.alone and lane.jobs and lane.due <= now and not lane.blocked]
        if others:
            self._batches(others, now)

    def _one(self, lane: _Lane, now: float) -> bool:
        """Call with a lane's first job; whether it left the lane."""
        job = lane.jobs[0]
        claimed = ClaimedLane(lane.name, job.made + 1, False, (), [job.claimed(tried=0)])
        active = ActiveLane(claimed, token=1)
        _drive(executor_for(self._spec), [active], self._spec)
        settlement = settlement_of(active, finished=True, spec=self._spec, draw=_longest)
        assert settlement is not None
        kinds: dict[Action, Kind] = {Action.RETRY: "retry", Action.BURY: "dead_letter", Action.BLOCK: "blocked"}
        kind = kinds.get(settlement.action) or ("done" if active.done else "discarded")
        failed = active.failed
        self._note(job, kind, now, settlement.delay_ms, **_why(failed))
        return self._left(lane, settlement, [job], now) and not lane.blocked

    def _batches(self, lanes: Sequence[_Lane], now: float) -> None:
        """Call with what is in ``lanes``, in as few calls as the handler allows."""
        taken = [lane.jobs[:1] if lane.alone or lane.troubled else list(lane.jobs) for lane in lanes]
        actives = []
        for lane, jobs in zip(lanes, taken, strict=True):
            claimed = [job.claimed(tried=job.made) for job in jobs]
            actives.append(ActiveLane(ClaimedLane(lane.name, int(len(jobs) == 1), False, (), claimed), token=1))
        _drive(batch_executor_for(self._spec), actives, self._spec)
        for lane, jobs, active in zip(lanes, taken, actives, strict=True):
            settlement = settle_batch(active, finished=True, spec=self._spec, draw=_longest)
            assert settlement is not None
            self._settle(lane, jobs, active, settlement, now)

    def _settle(
        self, lane: _Lane, jobs: Sequence[_Job], active: ActiveLane, settlement: Settlement, now: float
    ) -> None:
        """Take one lane's part of its calls to the books."""
        apart = settlement.action is Action.APART
        letters = settlement.ended + "." * (len(active.called) if apart else 0)
        failures = dict(enumerate((outcome for _, outcome in active.called), len(active.ended)))
        gone: list[_Job] = []
        behind = False
        for place, (job, letter) in enumerate(zip(jobs, letters, strict=False)):
            why = _why(None if letter in "dx" else failures.get(place))
            if letter in "dxD":
                ends: dict[str, Kind] = {"d": "done", "x": "discarded", "D": "dead_letter"}
                self._note(job, ends[letter], now, settlement.delay_ms, **why)
                gone.append(job)
                continue
            blocked = settlement.action is Action.BLOCK
            kind: Kind = "waiting" if blocked and behind else "blocked" if blocked else "retry"
            self._note(job, kind, now, settlement.delay_ms, **why, counted=not apart)
            job.made += not apart
            if letter in "oO" and job.change is not None:
                job.change, job.late = job.change._replace(stale=True), True
            behind = True
        if apart:
            lane.alone = len(active.called)
        self._left(lane, settlement, gone, now)

    def _note(
        self,
        job: _Job,
        kind: Kind,
        now: float,
        delay_ms: int,
        *,
        error: str | None = None,
        text: str = "",
        counted: bool = True,
    ) -> None:
        seen = {id(call) for outcome in job.attempts for call in outcome.calls}
        mine = [call for call in self._calls if id(call) not in seen and any(_is_of(c, job) for c in call.changes)]
        after = delay_ms / 1000 if kind == "retry" else None
        job.attempts.append(Outcome(kind, job.made + 1, after, error, text, tuple(mine), counted, now))

    def _left(self, lane: _Lane, settlement: Settlement, gone: Sequence[_Job], now: float) -> bool:
        """Write down what is left of a lane; whether its first job has left it."""
        first = lane.jobs[0]
        stays = settlement.action in (Action.RETRY, Action.BLOCK)
        if not self._spec.batch and stays:
            first.made += 1
            gone = []
        lane.jobs = [job for job in lane.jobs if all(job is not other for other in gone)]
        lane.due = now + settlement.delay_ms / 1000
        lane.blocked = settlement.action is Action.BLOCK
        lane.troubled = stays
        left = not lane.jobs or lane.jobs[0] is not first
        if left and lane.alone and settlement.action is not Action.APART:
            lane.alone -= 1
        return left


def _job(subject: Subject, made: int) -> _Job:
    if isinstance(subject, Event):
        return _Job(subject, None, (), subject.late, made)
    change = Change(subject.kind, subject.previous_assignee_id, subject.previous_known, subject.stale)
    return _Job(subject.event, change, subject.absorbed, subject.late, made)


def _why(outcome: Failed | Ended | None) -> Any:
    """Error and text of what failed."""
    return {"error": outcome.error, "text": outcome.text} if isinstance(outcome, Failed) else {}


def _is_of(subject: Subject, job: _Job) -> bool:
    event = subject if isinstance(subject, Event) else subject.event
    return (event.team_id, event.id) == (job.event.team_id, job.event.id)


def _drive(executor: Executor, lanes: list[ActiveLane], spec: HandlerSpec) -> None:
    """Everything through an executor, as the runner would."""
    try:
        with timer_kept():
            executor.start(lanes)
            while not all(lane.finished for lane in lanes):
                executor.wait()
                now = time.monotonic()
                if any(not lane.finished and 0 < lane.started < now - spec.timeout - HANGS for lane in lanes):
                    raise AssertionError(
                        f"{spec.name} did not end {HANGS:g} s after its timeout of {spec.timeout:g} s, and nothing "
                        "interrupts it there: a worker would leave it behind, or be replaced"
                    )
    finally:
        executor.close()


def _longest() -> float:
    return 1.0
