"""Whether a worker process can still do what it is for. One of a pool that can't is to be replaced."""

from __future__ import annotations

from typing import Final

import structlog

from worker.core.handlers import HandlerSpec
from worker.runtime.executors import Executor, executor_for, replaceable
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


def fit_to_run(process: Process, spec: HandlerSpec, executor: Executor | None = None) -> bool:
    """Whether calls of a handler can begin in this process. Raises ``SystemExit`` where another takes its place."""
    if fit(process, spec.name, executor or executor_for(spec)):
        return True
    if replaceable():
        raise SystemExit(1)
    return False


def goes_aside(spec: HandlerSpec) -> bool:
    """Whether runs of a handler go on beside Celery's task (side_runs.py): its calls are coroutines, one a job."""
    return spec.is_async and spec.batch is None
