"""Runs of coroutine handlers go on beside Celery's task: each partition's in a thread, so a process runs many at once.

A call in a coroutine needs no process to wait for it, and a partition has only some of the teams. Were a task to stay
with its partition, a process could have no more calls under way than that one has lanes. So the task only starts the
run, or tells the one that is at it already to look again, and ends. All runs of a handler share its ``concurrency``.
A process that ends waits for its runs, which end with their time slice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import structlog

MOST: Final = 256  # threads, which wait most of the time

Key = tuple[str, int]

log = structlog.get_logger("handoff.runner")


class Run(Protocol):
    """``run`` answers one doorbell; ``poke`` has it look for new lanes now.

    ``lanes`` is how many it has in hand, ``running`` those whose calls were begun; ``careful``: one of them is to be
    tried with no other beside it (alone.py).
    """

    @property
    def lanes(self) -> int: ...

    @property
    def running(self) -> int: ...

    @property
    def careful(self) -> bool: ...

    def run(self) -> int: ...

    def poke(self) -> None: ...


class SideRuns:
    """The runs of one process, one at a time for each (handler, partition)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active: dict[Key, Run] = {}
        self._again: set[Key] = set()
        self._refused: dict[str, dict[int, Callable[[], None]]] = {}
        self._places: dict[str, threading.Lock] = {}
        self._pool: ThreadPoolExecutor | None = None

    def start(self, key: Key, make: Callable[[], Run]) -> None:
        """Begin a run, or see to it that the present one, or one after it, finds what there is to do now."""
        with self._changed:
            active = self._active.get(key)
            if active is not None:
                self._again.add(key)
            else:
                self._active[key] = make()
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(MOST, thread_name_prefix="handoff-run")
                self._pool.submit(self._go, key, make)
        if active is not None:
            active.poke()  # not before: it may ring, and others need not wait for the broker

    def lanes(self, handler: str, besides: int) -> int:
        """How many lanes of a handler the runs of other partitions have in hand."""
        return sum(run.lanes for run in self._others(handler, besides))

    def running(self, handler: str, besides: int) -> int:
        """How many of those are running."""
        return sum(run.running for run in self._others(handler, besides))

    def careful(self, handler: str, besides: int) -> bool:
        """Whether one of those is to be tried alone."""
        return any(run.careful for run in self._others(handler, besides))

    def _others(self, handler: str, besides: int) -> list[Run]:
        with self._changed:
            return [run for (name, partition), run in self._active.items() if name == handler and partition != besides]

    def places(self, handler: str) -> threading.Lock:
        """To be held while a handler's free places are counted and taken, or two runs would take the same."""
        with self._changed:
            return self._places.setdefault(handler, threading.Lock())

    def refuse(self, handler: str, partition: int, ring: Callable[[], None]) -> None:
        """There was no place for a partition's lanes: ``ring`` when another run of the handler has ended."""
        with self._changed:
            if any(name == handler and other != partition for name, other in self._active):
                self._refused.setdefault(handler, {})[partition] = ring
                return
        ring()

    def wait(self, seconds: float) -> None:
        """Until all have ended, or so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._active, seconds)

    def _go(self, key: Key, make: Callable[[], Run]) -> None:
        run = self._active[key]
        while True:
            ended = self._run(run)
            with self._changed:
                if key in self._again and not ended:
                    self._again.discard(key)
                    run = self._active[key] = make()
                    continue
                self._again.discard(key)
                del self._active[key]
                refused = self._refused.pop(key[0], {})
                self._changed.notify_all()
            for ring in refused.values():
                ring()
            return

    def _run(self, run: Run) -> bool:
        """Whether the process is to end, so that nothing should begin any more."""
        try:
            run.run()
        except SystemExit:
            return True
        except Exception:
            # The lanes in hand are free again when their leases run out, and the sweeper rings for them.
            log.exception("run_failed")
        return False
