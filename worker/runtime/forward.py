"""Sends changes on to tasks of other Celery applications, for ``worker.route``."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

from kombu.connection import Connection
from kombu.messaging import Producer

from worker.api import CallTimeout, Context
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import Forward
from worker.doorbell import broker_ssl, sentinel_options
from worker.settings import Settings

CONNECT: Final = 3.0  # seconds
ANSWER: Final = 5.0  # seconds for a command, well below the time limit of a call

REDIS: Final = {
    "socket_timeout": ANSWER,
    "socket_connect_timeout": CONNECT,
    "socket_keepalive": True,
    "health_check_interval": 5,
}
AMQP: Final = {
    "confirm_publish": True,  # or what a broker lost before it had read it would count as done
    "read_timeout": ANSWER,
    "write_timeout": ANSWER,
}


class Forwarder:
    """A handler function that sends its argument as plain JSON to ``forward.task``, by the id of the idempotency key.

    It returns when the broker has taken the message. A broker that is away raises an error within seconds, and the job
    is retried, in order. A message that was sent and not confirmed is sent again, with the same id.

    The application it sends through knows nothing but the broker: the far side's queues have their own names, without
    the prefix that the doorbells' have. There is one connection in each process, made at the first call, and again
    after anything went wrong with it.
    """

    def __init__(self, settings: Settings, forward: Forward) -> None:
        from celery import Celery  # not at the top: who only lists the handlers, as `handoff dev` does, needs none

        self._forward = forward
        self._broker = forward.broker or settings.broker
        self._sentinels = {} if forward.broker else sentinel_options(settings)
        self._ssl = not forward.broker and broker_ssl(settings)
        self._application = Celery("handoff-forward", broker=self._broker, set_as_current=False)
        self._application.conf.update(task_serializer="json", task_ignore_result=True, task_publish_retry=False)
        self._kept: tuple[int, Producer] | None = None
        self._lock = threading.Lock()

    def __call__(self, subject: AssigneeChange | Event, ctx: Context) -> None:
        payload = subject.as_dict() if isinstance(subject, AssigneeChange) else subject.document
        with self._lock:
            kept = self._kept is not None and self._kept[0] == os.getpid()
            try:
                self._send(payload, ctx.idempotency_key)
            except Exception as error:
                if not kept or isinstance(error, CallTimeout):
                    raise
                # The broker was restarted since, or it closed a connection that had been idle: no attempt's fault.
                self._send(payload, ctx.idempotency_key)

    def _send(self, payload: dict[str, Any], task_id: str) -> None:
        producer = self._producer()
        try:
            self._application.send_task(
                self._forward.task,
                args=[payload],
                queue=self._forward.queue,
                task_id=task_id,
                producer=producer,
                retry=False,
                ignore_result=True,
            )
        except BaseException:
            # Also after a time-out: who knows how much of a message was written.
            self._drop()
            raise

    def _producer(self) -> Producer:
        if self._kept is None or self._kept[0] != os.getpid():
            connection = Connection(
                self._broker,
                transport_options=_options(self._broker) | self._sentinels,
                connect_timeout=CONNECT,
                ssl=self._ssl,
            )
            # Each host once: by itself kombu would go on trying, with pauses, and hold up the process.
            connection.ensure_connection(max_retries=max(0, len(connection.alt) - 1), interval_start=0, interval_step=0)
            self._kept = os.getpid(), Producer(connection)
        return self._kept[1]

    def _drop(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            try:
                kept[1].connection.release()
            except Exception:  # noqa: BLE001 - a broker that is gone can't be left politely
                return


def _options(broker: str) -> dict[str, Any]:
    if broker.startswith(("redis", "valkey", "sentinel", "unix")):
        return dict(REDIS)
    return dict(AMQP) if broker.startswith(("amqp", "pyamqp")) else {}
