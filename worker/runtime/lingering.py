"""Runs whose time slice is over and whose calls are not: they go on without holding a place in the pool.

A call in a coroutine or a thread needs no process to wait for it. So its run leaves the Celery task, which ends and
makes room for other partitions and handlers, and is looked after here, by one thread for all runs of the process: what
ends is settled, leases are kept as before (runtime/keeper.py). Lanes that linger count against the handler's
concurrency; a bell that found no room because of them is rung again when there is some. A process that ends waits for
them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

LOOK_EVERY: Final = 0.02  # seconds

log = structlog.get_logger("handoff.runner")


class Run(Protocol):
    """A run that was left. ``linger`` settles what has ended, and says whether that was the last of it."""

    @property
    def handler(self) -> str: ...

    @property
    def lanes(self) -> int: ...

    def linger(self) -> bool: ...


class Lingering:
    """The runs of one process. The thread lasts while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._runs: list[Run] = []
        self._refused: dict[str, dict[int, Callable[[], None]]] = {}  # handler -> partition -> its bell
        self._watched = False

    def add(self, run: Run) -> None:
        with self._changed:
            self._runs.append(run)
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, daemon=True, name="handoff-lingering").start()

    def lanes(self, handler: str) -> int:
        """How many lanes of a handler linger."""
        with self._changed:
            return sum(run.lanes for run in self._runs if run.handler == handler)

    def refuse(self, handler: str, partition: int, ring: Callable[[], None]) -> None:
        """A run found no room: ``ring`` when a call of its handler has ended."""
        with self._changed:
            if any(run.handler == handler for run in self._runs):
                self._refused.setdefault(handler, {})[partition] = ring
                return
        ring()

    def wait(self, seconds: float) -> None:
        """Until all have ended, or so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._runs, seconds)

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_EVERY)
            with self._changed:
                runs = list(self._runs)
            for run in runs:
                before = run.lanes
                over = self._look(run)
                if over or run.lanes < before:
                    self._ended(run, over=over)
            with self._changed:
                if not self._runs:
                    self._watched = False
                    self._changed.notify_all()
                    return

    def _look(self, run: Run) -> bool:
        try:
            return run.linger()
        except Exception:
            log.exception("lingering_failed", handler=run.handler)
            return True

    def _ended(self, run: Run, *, over: bool) -> None:
        with self._changed:
            if over:
                self._runs.remove(run)
            refused = self._refused.pop(run.handler, {})
        for ring in refused.values():
            ring()
