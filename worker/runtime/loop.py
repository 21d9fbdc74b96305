"""The event loop of a worker process, in a daemon thread of its own, made at its first use and again after a fork.

Celery has no native async: an ``async def`` task would be reported done without having run. So coroutines of handlers
run here, and the task's thread waits for them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Final

from worker.runtime.verdict import standing

LOOP_PATIENCE: Final = 1.0  # seconds for the event loop to show that it turns

_lock = threading.Lock()
_current: tuple[int, asyncio.AbstractEventLoop] | None = None
_thread = 0


def process_loop() -> asyncio.AbstractEventLoop:
    """The running loop of this process."""
    global _current, _thread  # noqa: PLW0603 - one per process is the point
    with _lock:
        if _current is None or _current[0] != os.getpid():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, daemon=True, name="handoff-loop")
            thread.start()
            _thread = thread.ident or 0
            _current = (os.getpid(), loop)
        return _current[1]


def blocked_at() -> str:
    """File and line of the author's code at which the loop's thread stands: what blocks it, if it is blocked."""
    return standing(_thread)


def turns(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop of another thread turns. A coroutine that does not await, but blocks, has stopped all others of
    the process, for nobody knows how long: what is claimed now would never begin, and nobody else could have it."""
    alive = threading.Event()
    loop.call_soon_threadsafe(alive.set)
    return alive.wait(LOOP_PATIENCE)


def surface(task: asyncio.Task[None]) -> None:
    """A coroutine of ours that fails is a bug of ours: say so instead of keeping it in the task."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "lane coroutine failed", "exception": error})
