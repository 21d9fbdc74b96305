"""Run the jobs of claimed lanes in calls of many, for handlers with ``batch``.

A call is made of the lanes at the head of a queue (batches.py). ``concurrency`` is how many calls are made side by
side; a lane goes back into the queue with the jobs that its call had no room for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from functools import partial
from typing import Any

from worker.api import CallTimeout
from worker.core.handlers import HandlerSpec
from worker.runtime.alarm import Alarm, CutOff
from worker.runtime.batches import BatchCall, compose
from worker.runtime.calls import ActiveLane
from worker.runtime.executors import SETTLE_EVERY, leaving
from worker.runtime.loop import process_loop, surface, turns
from worker.runtime.threads import Threads


class BatchExecutor:
    """What the three kinds have in common: the queue, and how many calls are running."""

    parallel = False

    def __init__(self, spec: HandlerSpec) -> None:
        self.size = spec.batch or 1
        self.lanes = self.size * spec.concurrency
        self.running = 0
        self._spec = spec
        self._queue: deque[ActiveLane] = deque()
        self._lock = threading.Lock()

    def ready(self) -> bool:
        return True

    def free(self) -> int:
        """How many calls could begin at once, beside those that what waits here will be."""
        with self._lock:
            waiting = sum(len(lane.claimed.jobs) - len(lane.ended) for lane in self._queue)
            return max(0, self._spec.concurrency - self.running - -(-waiting // self.size))

    def start(self, lanes: list[ActiveLane]) -> None:
        with self._lock:
            self._queue.extend(lanes)

    def wait(self) -> None:
        raise NotImplementedError

    def wake(self) -> None:
        return  # its runs do not go on beside Celery's task

    def cut_off(self) -> None:
        return  # nothing interrupts a thread

    def close(self) -> None:
        return

    def _next(self, *, fresh: bool = False) -> BatchCall | None:
        """The next call, if there is one and, for a ``fresh`` one, room for it. ``_end`` has to follow."""
        with self._lock:
            if fresh and self.running >= self._spec.concurrency:
                return None
            call = compose(self._spec, self._queue)
            self.running += call is not None
            return call

    def _end(self, call: BatchCall) -> None:
        with self._lock:
            self.running -= 1
            self._queue.extendleft(reversed(call.close()))


class InlineBatches(BatchExecutor):
    """One call after another, in the calling thread."""

    def __init__(self, spec: HandlerSpec) -> None:
        super().__init__(spec)
        self._alarm = Alarm(spec.timeout)

    def cut_off(self) -> None:
        self._alarm.cut_off()

    def wait(self) -> None:
        """Make calls until there is enough to settle."""
        end = time.monotonic() + SETTLE_EVERY
        with self._alarm:
            while time.monotonic() < end and (call := self._next()) is not None:
                try:
                    self._run(call)
                finally:
                    self._end(call)

    def _run(self, call: BatchCall) -> None:
        alarm = self._alarm
        try:
            alarm.set()
            try:
                wanted = call.prepare()
                answer = self._spec.function(*call.arguments()) if wanted else None
            finally:
                alarm.clear()
            call.answered(answer)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's code raises is an outcome
            alarm.clear()  # once more: the signal may have come just before it was cleared
            if isinstance(error, CutOff) or (isinstance(error, SystemExit) and leaving()):
                for waiting in self._queue:
                    waiting.stop = True
                if isinstance(error, CutOff) or not call.lost:
                    return  # the process's end and not a job's doing: no attempt of any has failed
                # Told to end because of this very call (runtime/tasks.py).
                error = CallTimeout(f"took longer than {self._spec.timeout:g} s, and was not to be interrupted")
            call.raised(error)


class ThreadBatches(BatchExecutor):
    """Calls in threads of a pool of ``concurrency``."""

    parallel = True

    def __init__(self, spec: HandlerSpec) -> None:
        super().__init__(spec)
        self._threads = Threads(spec.concurrency, f"handoff-{spec.name}")
        self._changed = threading.Event()

    def start(self, lanes: list[ActiveLane]) -> None:
        super().start(lanes)
        while (call := self._next(fresh=True)) is not None:
            self._threads.submit(partial(self._turn, call))

    def wait(self) -> None:
        if self._changed.wait(SETTLE_EVERY):
            self._changed.clear()

    def close(self) -> None:
        self._threads.close()

    def _turn(self, call: BatchCall | None) -> None:
        while call is not None:
            try:
                wanted = call.prepare()
                call.answered(self._spec.function(*call.arguments()) if wanted else None)
            except BaseException as error:  # noqa: BLE001 - whatever ends a thread must end in the books
                call.raised(error)
            self._end(call)
            call = self._next()
            self._changed.set()


class LoopBatches(BatchExecutor):
    """Calls as coroutines on the process's event loop."""

    parallel = True

    def __init__(self, spec: HandlerSpec) -> None:
        super().__init__(spec)
        self._loop = process_loop()
        self._changed = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cutting_off = False

    def ready(self) -> bool:
        return turns(self._loop)

    def start(self, lanes: list[ActiveLane]) -> None:
        super().start(lanes)
        self._loop.call_soon_threadsafe(self._start)

    def wait(self) -> None:
        if self._changed.wait(SETTLE_EVERY):
            self._changed.clear()

    def cut_off(self) -> None:
        self._cutting_off = True
        self._loop.call_soon_threadsafe(self._cancel)

    def close(self) -> None:
        """Whatever still runs has no lease any more: to let it go on would be to call out of order."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _start(self) -> None:
        while (call := self._next(fresh=True)) is not None:
            task = self._loop.create_task(self._turn(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(surface)
        self._changed.set()  # lanes that were told to stop have finished, if nothing else has

    async def _turn(self, call: BatchCall | None) -> None:
        while call is not None:
            try:
                call.answered(await self._call(*call.arguments()) if call.prepare() else None)
            except BaseException as error:  # noqa: BLE001 - out of here, a KeyboardInterrupt would end the process's loop
                # Without an outcome, a job stays as it is.
                if not (self._cutting_off and isinstance(error, asyncio.CancelledError)):
                    call.raised(error)
            self._end(call)
            call = self._next()
            self._changed.set()

    async def _call(self, changes: list[Any], ctx: Any) -> object:
        limit = asyncio.timeout(self._spec.timeout)
        try:
            async with limit:
                return await self._spec.function(changes, ctx)
        except TimeoutError as error:
            if limit.expired():
                raise CallTimeout(f"took longer than {self._spec.timeout:g} s") from error
            raise


def batch_executor_for(spec: HandlerSpec) -> BatchExecutor:
    if spec.is_async:
        return LoopBatches(spec)
    if spec.concurrency > 1 or threading.current_thread() is not threading.main_thread():
        return ThreadBatches(spec)  # no signal can interrupt a call there, so one that hangs must be left behind
    return InlineBatches(spec)
