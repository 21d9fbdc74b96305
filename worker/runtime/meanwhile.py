"""Settles for a run whose own thread is in a slow call, what ended in the same line before that call.

Where calls are made one after another, the run's thread writes outcomes between them. A call that takes a minute would
keep back the success of those before it for as long: their lanes would wait for it, and when their leases have run out,
others would call them again. So the keeper's thread, which notices slow calls, writes them: only while the other is in
its executor, and never both at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker.errors import StoreUnavailable
from worker.runtime.executors import Executor


class Meanwhile:
    """Of one run. ``settle`` writes what has ended and says how many jobs that were; ``ring`` rings for the lanes."""

    def __init__(self, executor: Executor, settle: Callable[[], int], ring: Callable[[], None]) -> None:
        self._executor = executor
        self._settle = settle
        self._ring = ring
        self._turn = threading.Lock()
        self._waits = False
        self._failure: StoreUnavailable | None = None

    def wait(self) -> None:
        """Wait for the executor, in the run's own thread. Raises ``StoreUnavailable`` if that was met meanwhile."""
        with self._turn:
            self._waits = True
        try:
            self._executor.wait()
        finally:
            with self._turn:
                self._waits = False
        if self._failure is not None:
            raise self._failure

    def settle(self) -> None:
        """Settle, in another thread, if the run's own is away. Raises ``StoreUnavailable``."""
        with self._turn:
            if not self._waits or self._failure is not None:
                return
            try:
                ended = self._settle()
            except StoreUnavailable as error:
                self._failure = error  # nobody knows what was written: the run ends, as if it had met it itself
                raise
        if ended:
            self._ring()
