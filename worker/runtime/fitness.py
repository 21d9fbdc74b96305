"""Whether a worker process can still do what it is for. One of a pool that can't is to be replaced."""

from __future__ import annotations

from typing import Final

import structlog

from worker.runtime.executors import Executor, replaceable
from worker.runtime.loop import blocked_at
from worker.runtime.process import Process

HUNG_MOST: Final = 16  # calls that were given up and go on all the same, each in a thread

log = structlog.get_logger("handoff.runner")


def fit(process: Process, handler: str, executor: Executor) -> bool:
    """Whether calls of ``handler`` can begin here; says why not.

    Nothing but the end of the process ends a call that hangs in a thread, or one that blocks the event loop. Each
    attempt would add one. A process that nobody would replace goes on with its other handlers.
    """
    if not executor.ready():
        log.error("event_loop_blocked", handler=handler, where=blocked_at(), leaving=replaceable())
        return False
    hanging = process.hanging(None if replaceable() else handler)
    if hanging >= HUNG_MOST:
        log.error("calls_hang", handler=handler, calls=hanging, leaving=replaceable())
        return False
    return True
