"""How many messages wait in the queues of a worker, asked of the broker over a connection of our own.

Of any broker that kombu knows, by a passive declaration, which changes nothing and counts what waits; with Redis, over
the lists of all priorities. The consumer's connection is not used: it is what may be deaf.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu.connection import Connection

from worker.doorbell import connect, connection_to
from worker.settings import Settings


class Waiting:
    """For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._channel: Any = None

    def count(self, queues: Iterable[str]) -> dict[str, int] | None:
        """Messages by queue; None if the broker can't be asked."""
        try:
            return {queue: self._count(queue) for queue in queues}
        except Exception:  # noqa: BLE001 - every broker's library has its own errors, and to us they are one
            self.close()
            return None

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except Exception:  # noqa: BLE001 - a broker that is gone can't be left politely
                return

    def _count(self, queue: str) -> int:
        if self._connection is None:
            self._connection = connection_to(self._settings)
            connect(self._connection)
        if self._channel is None:
            self._channel = self._connection.channel()
        try:
            return int(self._channel.queue_declare(queue=queue, passive=True).message_count)
        except self._connection.channel_errors as error:
            if str(getattr(error, "reply_code", "")) != "404":
                raise
            if not getattr(self._channel, "is_open", True):  # AMQP closes it with this answer
                self._channel = None
            return 0  # no such queue: nobody has ever written to it, or with Redis, it is empty
