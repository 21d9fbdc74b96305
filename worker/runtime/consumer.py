"""Celery's consumer, quicker to come back to its broker, and without the small talk between workers.

Celery waits 2, 4, 6 ... 30 seconds between its tries to reach a broker that is away. After an outage of minutes a
worker would do nothing for half a minute more, and the sweeper could not help: nobody would read the bells it rings.

Gossip and mingle serve task revocations and clocks that doorbells have no use for. They cost a second at each start and
reconnection, connections, and a traceback in the log (AttributeError in Gossip) at most reconnections.

A broker may take connections and refuse commands: a read-only replica, a user without a right. Celery would
connect to it some twenty times a second, with four log lines each. Here a connection that did not live is
followed by the same pauses as one that could not be made.
"""

from __future__ import annotations

import functools
import time
import warnings
from typing import Any, Final

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state
from celery.worker.consumer import Consumer

NAME: Final = f"{__name__}:DoorbellConsumer"
FIRST_PAUSE: Final = 0.5  # seconds after the first failure; each further one adds as much
LONGEST_PAUSE: Final = 3.0
LIVED: Final = 10.0  # seconds; the loss of a connection that was up so long is not the broker's refusal


class DoorbellConsumer(Consumer):  # type: ignore[misc]
    """What ``worker_consumer`` names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"without_gossip": True, "without_mingle": True})
        self._pause = 0.0
        self._connected_at = float("-inf")

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = functools.partial(
            conn.ensure_connection,
            interval_start=FIRST_PAUSE,
            interval_step=FIRST_PAUSE,
            interval_max=LONGEST_PAUSE,
        )
        connected = super().ensure_connected(conn)
        self._connected_at = time.monotonic()
        return connected

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        with warnings.catch_warnings():
            # Eight lines that advise to set what is set (worker/runtime/config.py). Celery shows such warnings always.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        lived = time.monotonic() - self._connected_at
        self._pause = 0.0 if lived > LIVED else min(LONGEST_PAUSE, self._pause + FIRST_PAUSE)
        end = time.monotonic() + self._pause
        while (left := end - time.monotonic()) > 0:
            state.maybe_shutdown()  # a signal only sets a mark
            time.sleep(min(left, FIRST_PAUSE))
