"""One call of a handler: what it is called with, and how far a lane of them is."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Sequence
from math import inf
from typing import Any

from worker.api import Context
from worker.core.batches import Ended, Item
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import HandlerSpec
from worker.runtime.verdict import Failed
from worker.store.lanes import ClaimedJob, ClaimedLane


class ActiveLane:
    """A claimed lane on its way through an executor, which writes here and nowhere else.

    ``done`` and ``discarded`` count the jobs at its head that ended well, ``declined`` those of the latter that the
    handler was called for; ``failed`` is why it stopped early. ``told`` is how many calls the circuit was told of.
    ``finished`` is set last. ``stop`` is the runner's wish: not to start another job. ``started`` is when the present
    call began (monotonic seconds), 0 between calls, ``thread`` where; ``taken`` is when the lane was. ``lost``: the
    lease is not kept any more, nor worth waiting for. ``returned``: it was handed back before any job of it began.
    ``alone``: no other lane may run beside it (runtime/alone.py). ``cut``: the process had to end in the middle of a
    call, which may have taken effect.

    ``begin`` is how a job is begun where another thread may hand the lane back meanwhile. ``until`` is when the lease
    may have run out (monotonic seconds): a process that was stopped for longer, and comes to itself with jobs in hand,
    begins none of them, for by then others have them.

    Of a batch handler ``ended`` has a letter for each job at its head that ended well, of which ``sent`` were settled;
    ``called`` the jobs of the call in which some failed, ``together`` with others and as a whole.
    """

    __slots__ = (
        *("alone", "called", "claimed", "cut", "declined", "discarded", "discards", "done", "ended", "failed"),
        *("finished", "lost", "returned", "sent", "settled", "started", "stop", "taken", "thread", "together", "told"),
        *("token", "touched", "until"),
    )

    def __init__(self, claimed: ClaimedLane, token: int, until: float = inf) -> None:
        self.claimed = claimed
        self.token = token
        self.until = until
        self.done = 0
        self.discarded = 0
        self.declined = 0
        self.failed: Failed | None = None
        self.finished = False
        self.settled = (0, 0)
        self.discards: list[int] = []  # which of the jobs that ended were discarded
        self.told = 0
        self.started = 0.0
        self.taken = time.monotonic()
        self.stop = False
        self.lost = False
        self.thread = 0
        self.returned = False
        self.alone = False
        self.cut = False
        self.touched = False  # whether any job of it was started
        self.ended = ""
        self.sent = 0
        self.called: Sequence[tuple[Item, Ended | Failed]] = ()
        self.together = False

    def begin(self) -> bool:
        """Whether the next job may start; notes that it does.

        Here ``touched`` is set, then ``stop`` read; ``untouched`` sets ``stop``, then reads ``touched``. So one of the
        two, if not both, sees the other: no lane is both begun and handed back.
        """
        before, self.touched = self.touched, True
        now = time.monotonic()
        if self.stop or now > self.until:
            self.stop = True
            self.touched = before
            return False
        self.thread = threading.get_ident()
        self.started = now
        return True

    def discard(self) -> None:
        """The next job ends discarded."""
        self.discards.append(self.done + self.discarded)
        self.discarded += 1

    def untouched(self) -> bool:
        """Whether no job of it was started, and now none will be."""
        self.stop = True
        return not self.touched


def subject_of(spec: HandlerSpec, claimed: ClaimedJob) -> AssigneeChange | Event:
    """What the handler gets as its first argument."""
    job = claimed.job
    event = Event(claimed.body, team_id=claimed.team, seq=job.seq, late=job.late)
    if spec.on is not None or job.change is None:
        return event
    kind, previous, known, stale = job.change
    absorbed = () if job.joint is None else job.joint.absorbed
    return AssigneeChange(
        event, kind=kind, previous_assignee_id=previous, previous_known=known, stale=stale, absorbed=absorbed
    )


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
