"""Runs a schedule: breaks what is due, mends what has lasted, and keeps what it did with the times."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.chaos.cluster import Cluster
from tests.chaos.faults import FAULTS, Done, Nothing
from tests.chaos.history import Fault
from tests.chaos.schedule import KINDS, Step

ORPHANED: Final = 1.0  # seconds that the children of a killed worker may go on calling


class Injector:
    """``done`` are the faults so far; ``say`` is told of each. ``run`` returns when all is mended."""

    def __init__(self, cluster: Cluster, steps: Sequence[Step], say: Callable[[str], None]) -> None:
        self.done: list[Fault] = []
        self._cluster = cluster
        self._say = say
        self._counter = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._over = threading.Event()
        for step in steps:
            self._push(step.at, lambda step=step: self._begin(step))  # type: ignore[misc]

    def run(self, began: float) -> None:
        """``began`` is the time of the schedule's second 0. What fails to break is said, and passed over; what can't
        be mended is raised."""
        self._began = began
        while self._due:
            at, _, act = heapq.heappop(self._due)
            self._over.wait(max(0.0, began + at - time.monotonic()))
            act()

    def stop(self) -> None:
        """Hurry to the end."""
        self._over.set()

    def _push(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at, next(self._counter), act))

    def _begin(self, step: Step) -> None:
        kind = KINDS[step.kind]
        begin = time.monotonic()
        try:
            done = FAULTS[step.kind](self._cluster, step)
        except Nothing:
            self._tell(begin, f"{step.kind}: there is nothing to break")
            return
        except Exception as error:
            self._tell(begin, f"{step.kind}: {type(error).__name__}: {error}")
            done = Done("failed")
        lasts = f" for {step.lasting:.1f} s" if done.undo is not None else ""
        self._tell(begin, f"{step.kind}: {done.what}{lasts}")
        if done.undo is None:
            self._keep(step, kind, begin, time.monotonic(), done)
        else:
            self._push(begin - self._began + step.lasting, lambda: self._end(step, begin, done))

    def _end(self, step: Step, begin: float, done: Done) -> None:
        kind = KINDS[step.kind]
        assert done.undo is not None
        also: Any = done.undo()
        end = time.monotonic()
        self._tell(end, f"{step.kind}: {done.what} is over")
        if isinstance(also, tuple):  # it began with one kill and ended with another; nothing was broken in between
            self._keep(step, kind, begin, begin + ORPHANED, done)
            self._keep(step, kind, end, end + ORPHANED, Done(done.what, also))
        else:
            self._keep(step, kind, begin, end, done)

    def _keep(self, step: Step, kind: Any, begin: float, end: float, done: Done) -> None:
        self.done.append(Fault(step.kind, begin, end, done.what, done.pids, kind.crash))

    def _tell(self, at: float, what: str) -> None:
        self._say(f"{at - self._began:7.2f}  {what}")
