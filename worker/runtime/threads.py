"""A pool of daemon threads, started as they are needed.

Not concurrent.futures': Python waits for those at its exit, and a call that hangs would keep the process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Threads:
    """Runs what it is given in up to ``most`` threads. Work must not raise."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    def submit(self, work: Callable[[], None]) -> None:
        """To be called by one thread only."""
        self._queue.put(work)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._work, daemon=True, name=f"{self._name}-{self._started}").start()

    def close(self) -> None:
        """Let each thread end once it has nothing to do, however long that takes; what was submitted is still run."""
        for _ in range(self._started):
            self._queue.put(None)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # or what it holds on to would live until there is more
            self._idle.release()
