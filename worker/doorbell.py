"""Rings the doorbells: tiny Celery messages that say "partition p has work" and carry nothing else.

The ingress rings without importing Celery, so the message is put together here, in Celery's message protocol 2
(docs.celeryq.dev, "Message Protocol"), and sent through kombu, which knows every broker. A bell may be lost, doubled or
late: whoever answers looks at the state server, and the sweeper rings again for whatever is due. So nothing here
retries, and a failure is one exception, ``BrokerUnavailable``, that callers count and forget.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kombu.connection import Connection
from kombu.messaging import Producer

from worker import tls
from worker.address import Kind
from worker.errors import BrokerUnavailable
from worker.settings import Settings

SEQUENCE_QUEUE: Final = "handoff.sequence"
DELIVER_QUEUE: Final = "handoff.deliver"
SEQUENCE_TASK: Final = "handoff.sequence"
RUN_TASK_PREFIX: Final = "handoff.run."
REDIS_LIKE: Final = ("redis", "valkey", "sentinel", "unix")
BELL_LIFE_MS: Final = 2000
"""How long a rung bell counts as being on its way; after that it is taken for lost and rung again."""


def transport_options(settings: Settings) -> dict[str, Any]:
    """kombu's options for the broker; those of the Redis transport are measured choices."""
    if not settings.broker.startswith(REDIS_LIKE):
        return {}
    return {
        **sentinel_options(settings),
        "ack_emulation": False,
        # A connection that leads nowhere any more is known by this: the consumer's after 3 to 5 s (a second of BRPOP,
        # two without a word, looked at every two), that of whoever rings after as long as a bell counts.
        "socket_timeout": BELL_LIFE_MS / 1000,
        "socket_connect_timeout": 3.0,
        "socket_keepalive": True,
        "health_check_interval": 2,
        "global_keyprefix": f"{settings.prefix}:broker:",
        "queue_order_strategy": "round_robin",
        "client_name": "handoff-bell",
    }


def sentinel_options(settings: Settings) -> dict[str, Any]:
    """What kombu has to be told beside the URL to find the primary; nothing where there are no Sentinels."""
    address = settings.broker_address
    if address is None or address.kind is not Kind.SENTINEL:
        return {}
    from worker import broker

    return broker.sentinel_options(address)


def broker_ssl(settings: Settings) -> dict[str, Any] | bool:
    """What kombu has to be told of TLS beside the URL: a Sentinel's has no place for it."""
    address = settings.broker_address
    if address is None or address.kind is not Kind.SENTINEL or not address.tls:
        return False
    from worker.broker import tls_options

    return {name: value for name, value in tls_options(address).items() if name != "ssl"}


def connection_to(settings: Settings) -> Connection:
    """One to the broker, as everybody of ours makes it who is no consumer; not connected yet."""
    if settings.broker.startswith(REDIS_LIKE):
        from worker import broker  # not at the top: brokers of other kinds need no redis-py

        broker.install()
    return Connection(
        settings.broker,
        transport_options=transport_options(settings),
        connect_timeout=3,
        ssl=broker_ssl(settings),
    )


def connect(connection: Connection) -> None:
    """Try each host once. Left to itself, kombu connects at the first message, and tries again with pauses of 2, 4, 6
    ... seconds: for so long a sequencer would hold its place in the pool, and the sweeper would not sweep."""
    connection.ensure_connection(max_retries=max(0, len(connection.alt) - 1), interval_start=0, interval_step=0)


def run_task(handler: str) -> str:
    """The Celery task name of a handler's runner."""
    return RUN_TASK_PREFIX + handler


class Doorbell:
    """One connection to the broker, made at the first ring and again after a failure. For one thread only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def ring_sequencer(self, partition: int, *, delay: float = 0.0) -> None:
        """Ask for ``partition`` to be sequenced, ``delay`` seconds from now. Raises ``BrokerUnavailable``."""
        self._ring(SEQUENCE_QUEUE, SEQUENCE_TASK, partition, delay)

    def ring_runner(self, handler: str, queue: str, partition: int, *, delay: float = 0.0) -> None:
        """Ask for the lanes of ``handler`` in ``partition`` to be run. Raises ``BrokerUnavailable``."""
        self._ring(queue, run_task(handler), partition, delay)

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.connection.release()
            except Exception:  # noqa: BLE001 - a broker that is gone can't be left politely
                return

    def _ring(self, queue: str, task: str, partition: int, delay: float) -> None:
        headers: dict[str, Any] = {"lang": "py", "task": task, "id": str(uuid.uuid4())}
        if delay > 0:
            headers["eta"] = (datetime.now(UTC) + timedelta(seconds=delay)).isoformat()
        try:
            producer = self._producer or self._connect()
            producer.publish(
                [[partition], {}, {}],
                exchange="",
                routing_key=queue,
                serializer="json",
                headers=headers,
                delivery_mode="transient",
                retry=False,
            )
        except Exception as error:
            # Every broker's library has its own errors; whatever it was, this connection is not trusted again.
            self.close()
            raise BrokerUnavailable(f"could not ring {task}: {tls.in_words(error) or type(error).__name__}") from error

    def _connect(self) -> Producer:
        connection = connection_to(self._settings)
        connect(connection)
        self._producer = Producer(connection)
        return self._producer
