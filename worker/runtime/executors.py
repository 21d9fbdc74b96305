"""Run the jobs of claimed lanes: strictly in order within a lane, lanes side by side as far as the handler allows.

- ``InlineExecutor``: plain functions, one after another in the task's own thread; the fastest, and the only one that
  can interrupt a call (by a timer signal, in the main thread of a prefork child).
- ``AsideExecutor``: the same where the task's thread is not the main one, so that no signal can interrupt a call: a
  thread of its own, which the runner leaves behind when a call hangs.
- ``ThreadExecutor``: plain functions with ``concurrency`` above 1, each lane in a thread.
- ``LoopExecutor``: ``async def`` handlers, each lane a coroutine on the process's event loop.

An executor gets lanes with ``start`` and reports by changing them; ``wait`` returns when there is something to settle.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from functools import partial
from typing import Any, Final, Protocol

from billiard.common import terminate_handler_fired
from billiard.process import current_process

from worker.api import CallTimeout
from worker.core.handlers import HandlerSpec
from worker.runtime.alarm import Alarm, CutOff
from worker.runtime.calls import ActiveLane, arguments_of, call, wanted
from worker.runtime.loop import process_loop, surface, turns
from worker.runtime.threads import Threads
from worker.runtime.verdict import failed

SETTLE_EVERY: Final = 0.02  # seconds: how long a finished job may stay unsettled, so how much a crash repeats
SETTLE_JOBS: Final = 256


class Executor(Protocol):
    """See the module. ``lanes`` is how many it takes at once; ``parallel``: whether they run side by side."""

    lanes: int
    parallel: bool

    def ready(self) -> bool:
        """Whether calls would begin at all."""
        ...

    def start(self, lanes: list[ActiveLane]) -> None: ...

    def wait(self) -> None: ...

    def wake(self) -> None:
        """End the present ``wait``, or the next, early."""
        ...

    def cut_off(self) -> None:
        """Interrupt the calls that are running, where that can be done. From any thread."""
        ...

    def close(self) -> None: ...


def executor_for(spec: HandlerSpec) -> Executor:
    if spec.is_async:
        return LoopExecutor(spec)
    if spec.concurrency > 1:
        return ThreadExecutor(spec)
    if threading.current_thread() is not threading.main_thread():
        return AsideExecutor(spec)
    return InlineExecutor(spec)


def replaceable() -> bool:
    """Whether this is a process of a pool, which would put a fresh one in its place."""
    return bool(current_process().name != "MainProcess")


def leaving() -> bool:
    """Whether the pool has told this process to end, which it does by a ``SystemExit`` wherever it happens to be."""
    return bool(terminate_handler_fired())


def _attempt(lane: ActiveLane) -> int:
    return max(1, lane.claimed.attempt)


def _ended_badly(spec: HandlerSpec, lane: ActiveLane, error: BaseException) -> bool:
    """Write an exception down; False for ``Discard``, after which the lane goes on."""
    failure = failed(spec, error)
    if failure is None:
        lane.discard()
        lane.declined += 1
        return False
    lane.failed = failure
    return True


class InlineExecutor:
    """One lane after another, in the calling thread."""

    # Whatever a user's code raises is an outcome. In the main thread a KeyboardInterrupt comes from a keyboard.
    _outcomes: tuple[type[BaseException], ...] = (Exception, SystemExit)

    def __init__(self, spec: HandlerSpec) -> None:
        self.lanes = 64
        self.parallel = False
        self._spec = spec
        self._queue: deque[ActiveLane] = deque()
        self._alarm = Alarm(spec.timeout)

    def ready(self) -> bool:
        return True

    def start(self, lanes: list[ActiveLane]) -> None:
        self._queue.extend(lanes)

    def wait(self) -> None:
        """Run jobs until there are enough of them to settle."""
        end, budget = time.monotonic() + SETTLE_EVERY, SETTLE_JOBS
        with self._alarm:
            while self._queue and budget > 0 and time.monotonic() < end:
                lane = self._queue[0]
                budget = self._run(lane, end, budget)
                if lane.finished:
                    self._queue.popleft()

    def wake(self) -> None:
        return  # it waits for nothing but its own calls

    def cut_off(self) -> None:
        self._alarm.cut_off()

    def close(self) -> None:
        return

    def _run(self, lane: ActiveLane, end: float, budget: int) -> int:
        spec, alarm, jobs = self._spec, self._alarm, lane.claimed.jobs
        attempt = _attempt(lane)
        while (at := lane.done + lane.discarded) < len(jobs) and lane.begin():
            try:
                subject, ctx = arguments_of(spec, jobs[at], attempt)
                alarm.set()
                try:
                    is_wanted = wanted(spec, subject)
                    if is_wanted:
                        call(spec, subject, ctx)
                finally:
                    alarm.clear()
                # Counted when no signal can come any more, or a job might end well and badly at once.
                if is_wanted:
                    lane.done += 1
                else:
                    lane.discard()
            except self._outcomes as error:
                alarm.clear()  # once more: the signal may have come just before it was cleared
                if isinstance(error, CutOff) or (isinstance(error, SystemExit) and leaving()):
                    for waiting in self._queue:
                        waiting.stop = True
                    if isinstance(error, CutOff) or not lane.lost:
                        lane.cut = True
                        break  # the process's end and not the job's doing: no attempt of it has failed
                    # Told to end because of this very call (runtime/tasks.py).
                    error = CallTimeout(f"took longer than {spec.timeout:g} s, and was not to be interrupted")
                if _ended_badly(spec, lane, error):
                    break
            finally:
                lane.started = 0.0
            budget -= 1
            if budget <= 0 or time.monotonic() >= end:
                if lane.done + lane.discarded < len(jobs):
                    return budget
                break
        lane.finished = True
        return budget


class AsideExecutor(InlineExecutor):
    """One lane after another, in one thread, for which ``wait`` waits no longer than a look at it takes."""

    _outcomes = (BaseException,)

    def __init__(self, spec: HandlerSpec) -> None:
        super().__init__(spec)
        self._thread = Threads(1, f"handoff-{spec.name}")
        self._idle = threading.Event()
        self._idle.set()

    def wait(self) -> None:
        """Let the thread run jobs until there are enough of them to settle, or for so long as one of them takes."""
        if self._idle.is_set():
            self._idle.clear()
            self._thread.submit(self._turn)
        self._idle.wait(SETTLE_EVERY)

    def close(self) -> None:
        self._thread.close()

    def _turn(self) -> None:
        try:
            super().wait()
        finally:
            self._idle.set()


class ThreadExecutor:
    """Each lane in a thread of a pool of ``concurrency``."""

    def __init__(self, spec: HandlerSpec) -> None:
        self.lanes = spec.concurrency
        self.parallel = True
        self._spec = spec
        self._threads = Threads(spec.concurrency, f"handoff-{spec.name}")
        self._changed = threading.Event()

    def ready(self) -> bool:
        return True

    def start(self, lanes: list[ActiveLane]) -> None:
        for lane in lanes:
            self._threads.submit(partial(self._run, lane))

    def wait(self) -> None:
        if self._changed.wait(SETTLE_EVERY):
            self._changed.clear()

    def wake(self) -> None:
        self._changed.set()

    def cut_off(self) -> None:
        return  # nothing interrupts a thread

    def close(self) -> None:
        self._threads.close()

    def _run(self, lane: ActiveLane) -> None:
        spec, jobs = self._spec, lane.claimed.jobs
        for claimed in jobs:
            if not lane.begin():
                break
            try:
                subject, ctx = arguments_of(spec, claimed, _attempt(lane))
                if wanted(spec, subject):
                    call(spec, subject, ctx)
                    lane.done += 1
                else:
                    lane.discard()
            except BaseException as error:  # noqa: BLE001 - whatever ends a thread must end in the books
                if _ended_badly(spec, lane, error):
                    break
            finally:
                lane.started = 0.0
        lane.finished = True
        self._changed.set()


class LoopExecutor:
    """Each lane a coroutine on the process's event loop, which runs in a thread of its own."""

    def __init__(self, spec: HandlerSpec) -> None:
        self.lanes = spec.concurrency
        self.parallel = True
        self._spec = spec
        self._loop = process_loop()
        self._changed = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cutting_off = False

    def ready(self) -> bool:
        return turns(self._loop)

    def start(self, lanes: list[ActiveLane]) -> None:
        self._loop.call_soon_threadsafe(self._start, lanes)

    def wait(self) -> None:
        if self._changed.wait(SETTLE_EVERY):
            self._changed.clear()

    def wake(self) -> None:
        self._changed.set()

    def cut_off(self) -> None:
        self._cutting_off = True
        self._loop.call_soon_threadsafe(self._cancel)

    def close(self) -> None:
        """Whatever still runs has no lease any more: to let it go on would be to call out of order."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _start(self, lanes: list[ActiveLane]) -> None:
        for lane in lanes:
            task = self._loop.create_task(self._run(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(surface)

    async def _run(self, lane: ActiveLane) -> None:
        spec, jobs = self._spec, lane.claimed.jobs
        attempt = _attempt(lane)
        for claimed in jobs:
            if not lane.begin():
                break
            try:
                subject, ctx = arguments_of(spec, claimed, attempt)
                if wanted(spec, subject):
                    await self._call(subject, ctx)
                    lane.done += 1
                else:
                    lane.discard()
            except BaseException as error:  # noqa: BLE001 - out of here, a KeyboardInterrupt would end the process's loop
                if self._cutting_off and isinstance(error, asyncio.CancelledError):
                    lane.cut = True
                    break
                if _ended_badly(spec, lane, error):
                    break
            finally:
                lane.started = 0.0
        lane.finished = True
        self._changed.set()

    async def _call(self, subject: Any, ctx: Any) -> None:
        limit = asyncio.timeout(self._spec.timeout)
        try:
            async with limit:
                await self._spec.function(subject, ctx)
        except TimeoutError as error:
            if limit.expired():
                raise CallTimeout(f"took longer than {self._spec.timeout:g} s") from error
            raise
