"""Celery's consumer, quicker to come back to its broker, and without the small talk between workers.

Celery waits 2, 4, 6 ... 30 seconds between its tries to reach a broker that is away. After an outage of minutes a
worker would do nothing for half a minute more, and the sweeper could not help: nobody would read the bells it rings.

Gossip and mingle serve task revocations and clocks that doorbells have no use for. They cost a second at each start and
reconnection, connections, and a traceback in the log (AttributeError in Gossip) at most reconnections.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from celery.worker.consumer import Consumer

NAME: Final = f"{__name__}:DoorbellConsumer"
FIRST_PAUSE: Final = 0.5  # seconds after the first failure; each further one adds as much
LONGEST_PAUSE: Final = 3.0


class DoorbellConsumer(Consumer):  # type: ignore[misc]
    """What ``worker_consumer`` names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"without_gossip": True, "without_mingle": True})

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = functools.partial(
            conn.ensure_connection,
            interval_start=FIRST_PAUSE,
            interval_step=FIRST_PAUSE,
            interval_max=LONGEST_PAUSE,
        )
        return super().ensure_connected(conn)
