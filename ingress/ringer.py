"""Rings the sequencers' doorbells in a thread of its own, so that no answer ever waits for the broker.

Where the broker is the server that has the inboxes, there is seldom one for it to ring (ingress/bells.py).

Asking for the same partition twice before its bell is rung rings it once. When the broker is away the partitions stay
noted (there are only so many) and are tried again with growing pauses; meanwhile the sweeper, which every Celery
worker has, does without bells.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

import structlog

from ingress.metrics import Metrics
from worker.doorbell import Doorbell, sequencer_bell
from worker.errors import BrokerUnavailable
from worker.settings import Settings

FIRST_PAUSE: Final = 0.1  # seconds after the first failure, doubled by each further one
LONGEST_PAUSE: Final = 5.0
AT_ONCE: Final = 64  # bells in one write

log = structlog.get_logger(__name__)


class Ringer:
    """``ring`` from any thread; ``start`` and ``stop`` once."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._wanted: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        # A daemon, because a broker that neither answers nor refuses must not keep the process from leaving.
        self._thread = threading.Thread(target=self._run, name="ringer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ring(self, partitions: Iterable[int]) -> None:
        """Have these partitions rung soon. Returns at once."""
        with self._changed:
            self._wanted.update(partitions)
            self._changed.notify()

    def stop(self, timeout: float) -> None:
        """Ring what is noted once more, for at most ``timeout`` seconds, and end the thread."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        doorbell = Doorbell(self._settings)
        pause = FIRST_PAUSE
        while partitions := self._take():
            try:
                while partitions:
                    some = partitions[-AT_ONCE:]
                    doorbell.ring([sequencer_bell(partition) for partition in some])
                    del partitions[-AT_ONCE:]
                    self._metrics.rung.inc(len(some))
            except BrokerUnavailable as error:
                self._metrics.ring_failed.inc()
                if pause == FIRST_PAUSE:
                    log.warning("broker_unavailable", setting="HANDOFF_BROKER_URL", error=str(error))
                if self._stopping.wait(pause):
                    break
                pause = min(pause * 2, LONGEST_PAUSE)
                self.ring(partitions)
            else:
                if pause != FIRST_PAUSE:
                    log.info("broker_back")
                pause = FIRST_PAUSE
        doorbell.close()

    def _take(self) -> list[int]:
        """The partitions to ring, once there are any; none means stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._stopping.is_set())
            partitions = list(self._wanted)
            self._wanted.clear()
            return partitions
