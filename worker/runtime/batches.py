"""One call of a batch handler: which jobs of which lanes go into it, what it is called with, and what its answer means.

The function gets a list of changes, and answers with what became of them (README.md, "Batches"):

- None: all are done.
- A sequence as long as the list: for each None or True (done), or an exception that says what one raised would say.
- A mapping from event id, or from place in the list, to such an outcome: those that it leaves out are done.

Any other answer is a mistake of the author's, and nothing is taken for done. What is raised stands for each of them.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from worker.api import BatchContext, Signal
from worker.core.batches import Ended, Item
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import HandlerSpec
from worker.core.retry import Failure
from worker.runtime.calls import ActiveLane, subject_of
from worker.runtime.verdict import Failed, failed

Outcome = Ended | Failed


class Called:
    """A job in a call. ``outcome`` is None while there is none."""

    __slots__ = ("at", "attempt", "lane", "outcome", "subject", "wanted")

    def __init__(self, lane: ActiveLane, at: int) -> None:
        job = lane.claimed.jobs[at].job
        self.lane = lane
        self.at = at
        self.attempt = (max(1, lane.claimed.attempt) if at == 0 else 1) + job.tried
        self.subject: AssigneeChange | Event | None = None
        self.wanted = False  # by the handler's filter
        self.outcome: Outcome | None = None

    @property
    def event(self) -> Event:
        assert self.subject is not None
        return self.subject if isinstance(self.subject, Event) else self.subject.event


class BatchCall:
    """Jobs of several lanes on their way through one call: ``prepare``, call with ``arguments``, then ``answered`` or
    ``raised``, and ``close`` in any case."""

    def __init__(self, spec: HandlerSpec, jobs: Sequence[Called]) -> None:
        self._spec = spec
        self._jobs = jobs
        self._called: list[Called] = []
        self._together = False

    def prepare(self) -> bool:
        """Ask the handler's filter about each, where the call is made; whether any is left to call it with."""
        now, thread = time.monotonic(), threading.get_ident()
        for lane in {id(job.lane): job.lane for job in self._jobs}.values():
            lane.started, lane.thread = now, thread
        for job in self._jobs:
            try:
                job.subject = subject_of(self._spec, job.lane.claimed.jobs[job.at])
                if self._spec.when is None or self._spec.when(job.subject):
                    job.wanted = True
                    self._called.append(job)
                else:
                    job.outcome = Ended.DISCARDED
            except Exception as error:  # noqa: BLE001 - whatever a user's code raises is an outcome
                job.outcome = failed(self._spec, error) or Ended.DISCARDED
        return bool(self._called)

    @property
    def lost(self) -> bool:
        """Whether the leases of its lanes are not kept any more, because it took too long."""
        return any(job.lane.lost for job in self._jobs)

    def arguments(self) -> tuple[list[Any], BatchContext]:
        events, attempts = [job.event for job in self._called], [job.attempt for job in self._called]
        return [job.subject for job in self._called], BatchContext(self._spec.name, events, attempts)

    def answered(self, answer: object) -> None:
        """Take what the function gave back."""
        try:
            errors = self._errors(answer)
            ended = {at: failed(self._spec, error) or Ended.DISCARDED for at, error in errors.items()}
        except _Wrong as wrong:
            # Nobody can say which of them it did. It is tried again, for a mended handler; not one by one, which would
            # repeat as many calls and be as wrong.
            self._fail(Failed(Failure(asked=True), "TypeError", str(wrong), ""))
            return
        for at, job in enumerate(self._called):
            job.outcome = ended.get(at, Ended.DONE)

    def raised(self, error: BaseException) -> None:
        """What it raised stands for each."""
        failure = failed(self._spec, error)
        if failure is None:
            for job in self._called:
                job.outcome = Ended.DISCARDED
        else:
            self._fail(failure)

    def close(self) -> list[ActiveLane]:
        """Write the outcomes into the lanes; those that have jobs left to be called. Without an outcome, as when the
        process has to end, a job stays as it is."""
        lanes: dict[int, list[Called]] = {}
        for job in self._jobs:
            lanes.setdefault(id(job.lane), []).append(job)
        going = []
        for jobs in lanes.values():
            lane = jobs[0].lane
            lane.started = 0.0
            _write(lane, jobs, together=self._together)
            lane.cut = jobs[-1].outcome is None
            if lane.failed is None and len(lane.ended) < len(lane.claimed.jobs) and jobs[-1].outcome is not None:
                going.append(lane)
            else:
                lane.finished = True
        return going

    def _fail(self, failure: Failed) -> None:
        self._together = len(self._called) > 1
        for job in self._called:
            job.outcome = failure

    def _errors(self, answer: object) -> dict[int, BaseException]:
        """The outcomes that are not "done", by place. Raises ``_Wrong``."""
        count = len(self._called)
        if answer is None:
            return {}
        if isinstance(answer, Mapping):
            places = {job.event.id: at for at, job in enumerate(self._called)}
            found = {_place(key, places, count): value for key, value in answer.items()}
            if len(found) < len(answer):
                raise _Wrong("answered twice for one change: by its event id and by its place")
        elif isinstance(answer, Sequence) and not isinstance(answer, str | bytes | bytearray):
            if len(answer) != count:
                raise _Wrong(f"answered with {len(answer)} outcomes for {count} changes: one for each, or None")
            found = dict(enumerate(answer))
        elif inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise _Wrong("returned an awaitable that nobody awaits: the outermost function has to be async def")
        else:
            raise _Wrong(
                f"answered with {type(answer).__name__}: None, a list of outcomes, or a dict of those that failed"
            )
        return {at: _error(value) for at, value in found.items() if value is not None and value is not True}


class _Wrong(Exception):
    """The answer can't be understood."""


def _place(key: object, places: Mapping[str, int], count: int) -> int:
    if isinstance(key, str) and key in places:
        return places[key]
    if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < count:
        return key
    kind = "an event id" if isinstance(key, str) else f"{key!r}" if isinstance(key, int) else type(key).__name__
    raise _Wrong(f"answered for {kind}, which is none of the {count} changes")


def _error(value: object) -> BaseException:
    if isinstance(value, BaseException):
        return value
    if isinstance(value, type) and issubclass(value, Signal):
        return value()  # the class, as after raise
    raise _Wrong(f"answered with {type(value).__name__} for a change: None or True (done), or an exception")


def _write(lane: ActiveLane, jobs: Sequence[Called], *, together: bool) -> None:
    outcomes = [job.outcome for job in jobs if job.outcome is not None]
    if len(outcomes) < len(jobs):
        return
    first = next((outcome for outcome in outcomes if isinstance(outcome, Failed)), None)
    lane.done += outcomes.count(Ended.DONE)
    lane.discarded += outcomes.count(Ended.DISCARDED)
    lane.declined += sum(job.wanted and job.outcome is Ended.DISCARDED for job in jobs)
    if first is None:
        lane.ended += "".join(outcome.value for outcome in outcomes if isinstance(outcome, Ended))
    else:
        lane.called = [(_item(job), outcome) for job, outcome in zip(jobs, outcomes, strict=True)]
        lane.together = together
        lane.failed = first


def _item(job: Called) -> Item:
    """What a failed job can be overtaken by: a newer change of its prospect, a later event of its lane."""
    if not isinstance(job.subject, AssigneeChange):
        return Item(job.attempt, "")
    try:
        return Item(job.attempt, job.subject.prospect.key, not job.subject.stale)
    except Exception:  # noqa: BLE001 - a body that can't be read has no prospect, and its own failure to tell of it
        return Item(job.attempt, None)


def compose(spec: HandlerSpec, queue: deque[ActiveLane]) -> BatchCall | None:
    """The next call: as many jobs as it has room for, from the lanes at the head of ``queue``, which leave it. A lane's
    are never in two calls at once."""
    jobs: list[Called] = []
    room = spec.batch or 1
    while queue and len(jobs) < room:
        lane = queue.popleft()
        at, claimed = len(lane.ended), lane.claimed.jobs
        # One whose body was lost is found out at the head of its lane.
        if not claimed[at].body or not lane.begin():
            lane.finished = True
            continue
        last = min(len(claimed), at + room - len(jobs))
        last = next((n for n in range(at, last) if not claimed[n].body), last)
        jobs += [Called(lane, n) for n in range(at, last)]
    return BatchCall(spec, jobs) if jobs else None
