"""One call of a handler: what it is called with, and what its ending means."""

from __future__ import annotations

import inspect
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.api import Context, DeadLetter, Discard, Retry
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import HandlerSpec
from worker.core.retry import Failure
from worker.store.lanes import ClaimedJob, ClaimedLane


class CallTimeout(Exception):
    """The handler took longer than its time limit."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed call: what the decision needs, and what people need to see. ``text`` may quote a person's data: it goes
    to the dead letters and never to logs; ``where`` is the place in the code."""

    failure: Failure
    error: str
    text: str
    where: str


class ActiveLane:
    """A claimed lane on its way through an executor, which writes here and nowhere else.

    ``done`` and ``discarded`` count the jobs at its head that ended well, ``failed`` is why it stopped early.
    ``finished`` is set last. ``stop`` is the runner's wish: not to start another job. ``started`` is when the present
    call began (monotonic seconds), 0 between calls; ``taken`` is when the lane was. ``lost``: the lease is not kept any
    more, nor worth waiting for.
    """

    __slots__ = (
        *("claimed", "discarded", "done", "failed", "finished", "lost"),
        *("settled", "started", "stop", "taken", "token", "touched"),
    )

    def __init__(self, claimed: ClaimedLane, token: int) -> None:
        self.claimed = claimed
        self.token = token
        self.done = 0
        self.discarded = 0
        self.failed: Failed | None = None
        self.finished = False
        self.settled = (0, 0)
        self.started = 0.0
        self.taken = time.monotonic()
        self.stop = False
        self.lost = False
        self.touched = False  # whether any job of it was started


def subject_of(spec: HandlerSpec, claimed: ClaimedJob) -> AssigneeChange | Event:
    """What the handler gets as its first argument."""
    job = claimed.job
    event = Event(claimed.body, team_id=claimed.team, seq=job.seq, late=job.late)
    if spec.on is not None or job.change is None:
        return event
    kind, previous, known, stale = job.change
    return AssigneeChange(event, kind=kind, previous_assignee_id=previous, previous_known=known, stale=stale)


def arguments_of(spec: HandlerSpec, claimed: ClaimedJob, attempt: int) -> tuple[AssigneeChange | Event, Context]:
    subject = subject_of(spec, claimed)
    event = subject if isinstance(subject, Event) else subject.event
    return subject, Context(spec.name, event, attempt)


def wanted(spec: HandlerSpec, subject: Any) -> bool:
    """The handler's own filter. What it raises is the handler's failure, like anything else that it raises."""
    return spec.when is None or bool(spec.when(subject))


def call(spec: HandlerSpec, subject: AssigneeChange | Event, ctx: Context) -> None:
    """Call a plain function. Raises what it raises, and ``TypeError`` when it turns out not to be one."""
    result = spec.function(subject, ctx)
    if result is not None and inspect.isawaitable(result):
        # Under a decorator that is no coroutine function itself. To go on would be to report done what never ran.
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("returned an awaitable that nobody awaits: the outermost function has to be async def")


def failed(error: BaseException) -> Failed | None:
    """What an exception means; None for ``Discard``, which is no failure. Never raises, whatever the error is."""
    match error:
        case Discard():
            return None
        case Retry():
            failure = Failure(after=error.after)
        case DeadLetter():
            failure = Failure(permanent=True)
        case _:
            failure = Failure()
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Failed(failure, type(error).__name__, _text(error), where)


def _text(error: BaseException) -> str:
    """An error's text as the store can write it: some can't be made, and some hold halves of characters."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - a text is not worth losing the outcome for
        text = f"(its text can't be had: {type(broken).__name__})"
    return text[:1000].encode("utf-8", "replace").decode()
