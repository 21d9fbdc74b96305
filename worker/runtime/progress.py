"""What a worker's main process has done lately: written by its consumer, read by the watchdog in another thread.

Each number is written by one thread and only ever grows; a reader may see one a moment late, and that is all.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final


@dataclass(slots=True)
class Progress:
    """``received``: messages taken from each queue (by routing key), readable or not. ``failures``: times that the
    broker's connection was lost, or could not be made. Times are of ``time.monotonic``; 0 is never."""

    received: Counter[str] = field(default_factory=Counter)
    received_at: float = 0.0
    failures: int = 0
    turned_at: float = 0.0

    def receive(self, queue: str) -> None:
        self.received[queue] += 1
        self.received_at = self.turned_at = time.monotonic()

    def fail(self) -> None:
        self.failures += 1
        self.turned_at = time.monotonic()

    def turn(self) -> None:
        """The main loop has come round."""
        self.turned_at = time.monotonic()


PROGRESS: Final = Progress()
"""This process's. Celery makes its consumer by itself, so there is nobody to hand it one."""
