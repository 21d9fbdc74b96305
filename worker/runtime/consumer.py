"""Celery's consumer, quicker to come back to its broker, deaf to what is no doorbell, and without small talk.

Celery waits 2, 4, 6 ... 30 seconds between its tries to reach a broker that is away. After an outage of minutes a
worker would do nothing for half a minute more, and the sweeper could not help: nobody would read the bells it rings.

Gossip and mingle serve task revocations and clocks that doorbells have no use for. They cost a second at each start and
reconnection, connections, and a traceback in the log (AttributeError in Gossip) at most reconnections.

A broker may take connections and refuse commands: a read-only replica, a user without a right. Celery would
connect to it some twenty times a second, with four log lines each. Here a connection that did not live is
followed by the same pauses as one that could not be made.

A message that is no doorbell (core/bells.py) is refused before Celery looks at it, which would end in some of them,
and log the whole of others. One line says so, and quotes nothing. Tasks of the user's own, which a handler's module may
define beside its handlers, are Celery's as ever.

What happens is noted for the watchdog (runtime/progress.py).
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import structlog
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state
from celery.worker.consumer import Consumer

from worker.core import bells
from worker.doorbell import RUN_TASK_PREFIX, SEQUENCE_TASK
from worker.runtime import shutdown
from worker.runtime.progress import PROGRESS
from worker.settings import MAX_PARTITIONS

NAME: Final = f"{__name__}:DoorbellConsumer"
FIRST_PAUSE: Final = 0.5  # seconds after the first failure; each further one adds as much
LONGEST_PAUSE: Final = 3.0
LIVED: Final = 10.0  # seconds; the loss of a connection that was up so long is not the broker's refusal

log = structlog.get_logger("handoff.worker")


class DoorbellConsumer(Consumer):  # type: ignore[misc]
    """What ``worker_consumer`` names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"without_gossip": True, "without_mingle": True})
        self._pause = 0.0
        self._connected_at = float("-inf")
        if self.hub:
            self.hub.on_tick.add(PROGRESS.turn)

    def perform_pending_operations(self) -> None:
        """What Celery's other loop, for brokers that can't be waited for with others, does each time round."""
        PROGRESS.turn()
        super().perform_pending_operations()

    def ensure_connected(self, conn: Any) -> Any:
        connect = conn.ensure_connection

        def ensure(errback: Callable[..., Any], *args: Any, **options: Any) -> Any:
            def failed(error: Exception, interval: float) -> Any:
                PROGRESS.fail()
                return errback(error, interval)

            pauses = {
                "interval_start": FIRST_PAUSE,
                "interval_step": FIRST_PAUSE,
                "interval_max": LONGEST_PAUSE,
            }
            return connect(failed, *args, **options | pauses)

        conn.ensure_connection = ensure
        connected = super().ensure_connected(conn)
        self._connected_at = time.monotonic()
        PROGRESS.turn()
        return connected

    def register_with_event_loop(self, hub: Any) -> None:
        """Have a signal end the wait for bells: it sets a mark, which the loop would look at with the next bell."""
        super().register_with_event_loop(hub)
        fd = shutdown.notice_fd()
        if fd is not None:
            hub.add_reader(fd, bool)

    def cancel_active_requests(self) -> None:
        """Part of the cold shutdown alone: calls that have no task are to be cut off as well."""
        shutdown.announce(cold=True)
        super().cancel_active_requests()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        PROGRESS.fail()
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
            PROGRESS.turn()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> Any:
            info = message.delivery_info
            PROGRESS.receive(str(info.get("routing_key")) if isinstance(info, dict) else "")
            if self._is_of_the_user(message.headers):
                return handled(message)
            try:
                problem = bells.fault(message.headers, info, message.payload, MAX_PARTITIONS)
            except Exception as error:  # noqa: BLE001 - whatever decoding it raises is the message's fault
                problem = type(error).__name__
            if problem is not None:
                return self._refuse(message, problem)
            message.headers = bells.kept(message.headers)
            return handled(message)

        def handled(message: Any) -> Any:
            result = handle(message)
            self._hand_out()
            return result

        return on_message

    def _hand_out(self) -> None:
        """Write what the pool has been given into the pipe of an idle process now.

        Celery's prefork pool only notes it, and writes in the loop's next round, after the broker was asked for more
        and the pipes for whether they can be written to: a third of a millisecond that a bell of an idle system waits.
        This is the callback that the loop would call then, with the same pipes; one that is full is waited for there.
        Pools of other kinds have none.
        """
        pool = getattr(self.pool, "_pool", None)
        write = getattr(self.hub, "consolidate_callback", None)
        if write is not None and getattr(pool, "outbound_buffer", None):
            pipes: set[int] = getattr(pool, "_all_inqueues", set()) - getattr(pool, "_active_writes", set())
            if pipes:
                write(list(pipes))

    def _is_of_the_user(self, headers: object) -> bool:
        """Whether it calls a task that is registered here, and neither ours nor one of Celery's own, such as
        ``celery.chain``, which runs whatever other tasks it is told."""
        name = headers.get("task") if isinstance(headers, dict) else None
        ours = (SEQUENCE_TASK, RUN_TASK_PREFIX, "celery.")
        return isinstance(name, str) and name in self.app.tasks and not name.startswith(ours)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - Celery's signature
        name = message.headers["task"]
        known = name.removeprefix(RUN_TASK_PREFIX) if name.startswith(RUN_TASK_PREFIX) and name.isprintable() else "?"
        self._refuse(message, "no such handler here", handler=known)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        self._refuse(message, "no task")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - Celery's signature
        self._refuse(message, type(exc).__name__)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._refuse(message, type(exc).__name__)

    def _refuse(self, message: Any, why: str, **context: Any) -> None:
        """Take it from the queue for good. Of a real bell nothing is lost: the sweeper rings again."""
        log.warning("message_dropped", why=why, **context)
        with contextlib.suppress(*self.connection_errors):  # then it has gone with the connection
            message.reject()
