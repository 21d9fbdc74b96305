"""Watches this worker from a thread of its main process, and has it leave when it has gone deaf.

    every ``PERIOD``: look ──▶ judge (core/liveness.py) ──▶ write the heartbeat ──▶ well: tell systemd
                                                     └─ hopeless: one line, SIGTERM ──▶ ends as ever, with ``EXIT_DEAF``
                                                          └─ does not begin to, or does not end ──▶ ends here and now

What it was about to do is safe: bells may be lost, and lanes that are claimed are free again when their leases run out.
The exit code is not 0, so that a supervisor that restarts only what failed restarts it too.

The watchdog asks nothing of what it watches: it has connections of its own to the broker and to the state server.
Whether it runs itself is seen from outside, by its heartbeats (`handoff doctor --worker`), and by systemd.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from celery import bootsteps
from celery.worker import state

from worker.core.liveness import EXIT_DEAF, Condition, Look, Watch, suspicious, watched
from worker.errors import StoreError
from worker.runtime import shutdown, systemd
from worker.runtime.beating import Beating
from worker.runtime.progress import PROGRESS
from worker.runtime.sweeper import SweeperStep
from worker.runtime.waiting import Waiting
from worker.settings import Settings

PERIOD: Final = 2.0  # seconds between looks; an idle worker asks its broker for the length of each queue as often
LATE: Final = (
    2.5 * PERIOD
)  # seconds; a look that comes later begins anew. Asking a broker that hangs takes 5 s, and fails
BEGIN: Final = 10.0  # seconds for the main loop to begin to stop; it looks at signals every second or two

log = structlog.get_logger("handoff.watchdog")


class Watchdog:
    """The loop of one worker. ``worker`` is Celery's ``WorkController``."""

    def __init__(self, worker: Any, settings: Settings, beating: Beating, sweeps: Callable[[], int | None]) -> None:
        self._worker = worker
        self._after = settings.deaf_after
        self._end = settings.grace + shutdown.AFTER_GRACE  # seconds for calls under way to end, or to be cut off
        self._beating = beating
        self._sweeps = sweeps
        self._waiting = Waiting(settings)
        self._watch = Watch()
        self._stopped = threading.Event()
        self._failing = False
        self.gave_up = False

    def run(self) -> None:
        """Look until ``stop``. Nothing that fails here may end it."""
        while not self._stopped.wait(PERIOD):
            try:
                condition = self.look()
                if condition.hopeless and not self._ending:
                    self._leave(condition)
            except Exception:
                log.exception("watchdog_failed")
        self._beating.leave()

    def stop(self) -> None:
        self._stopped.set()

    def look(self) -> Condition:
        """One look: what it comes to is judged, and said to everybody."""
        look = self._see()
        if suspicious(self._watch, look):
            counted = self._waiting.count(look.received)
            # What came while the broker was asked is not to be held against the worker.
            look = self._see(counted)
        self._watch = watched(self._watch, look, LATE)
        condition = self._watch.judge(self._after)
        if not condition.hopeless:
            systemd.say_well()
        try:
            self._beating.beat(look, condition, max(self._watch.unheard.values(), default=0.0))
            self._failing = False
        except StoreError as error:
            if not self._failing:
                log.warning("heartbeat_failed", error=str(error))
            self._failing = True
        return condition

    def _see(self, waiting: dict[str, int] | None = None) -> Look:
        queues = list(self._worker.app.amqp.queues.consume_from)
        # A message that names no queue of ours may have come from any of them.
        elsewhere = sum(count for queue, count in list(PROGRESS.received.items()) if queue not in queues)
        return Look(
            at=time.monotonic(),
            received={queue: PROGRESS.received[queue] + elsewhere for queue in queues},
            failures=PROGRESS.failures,
            turned_at=PROGRESS.turned_at,
            busy=len(state.active_requests),
            places=self._worker.pool.num_processes,
            waiting=waiting,
            in_line=self._in_line,
            sweeps=self._sweeps(),
        )

    @property
    def _ending(self) -> bool:
        """Whether it is on its way out already: no more messages are taken then, and calls are let end."""
        return state.should_stop is not None or state.should_terminate is not None or self._stopped.is_set()

    @property
    def _in_line(self) -> bool:
        """Whether calls are made by the main loop itself."""
        return type(self._worker.pool).__module__.endswith(".solo")

    @property
    def _calls_in_line(self) -> bool:
        return self._in_line and len(state.active_requests) > 0

    def _leave(self, condition: Condition) -> None:
        watch = self._watch
        log.error(
            f"worker_{condition}",
            waiting=watch.last.waiting if watch.last else None,
            seconds=round(max([*watch.unheard.values(), watch.still, watch.unswept])),
            received=PROGRESS.received.total(),
            busy=len(state.active_requests),
            leaving=True,
        )
        self.gave_up = True
        shutdown.end_with(EXIT_DEAF)
        os.kill(os.getpid(), signal.SIGTERM)
        begun = time.monotonic()
        while (gone := time.monotonic() - begun) < (
            self._end if self._stopped.is_set() or self._calls_in_line else BEGIN
        ):
            time.sleep(0.1)
        log.error("worker_does_not_end", seconds=round(gone), leaving="at once")
        os._exit(EXIT_DEAF)


class WatchdogStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the watchdog beside the sweeper, in the worker's main process."""

    requires = (SweeperStep,)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._watchdog: Watchdog | None = None

    def start(self, parent: Any) -> None:
        from worker.runtime import process

        found = process.current()
        (sweeper,) = (step for step in parent.steps if isinstance(step, SweeperStep))
        beating = Beating(parent, found.settings, found.registry)
        self._watchdog = Watchdog(parent, found.settings, beating, lambda: sweeper.steps)
        threading.Thread(target=self._watchdog.run, daemon=True, name="handoff-watchdog").start()

    def stop(self, parent: Any) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
            if self._watchdog.gave_up:
                parent.exitcode = EXIT_DEAF

    terminate = stop
