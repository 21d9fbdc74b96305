"""Rings the doorbells: tiny Celery messages that say "partition p has work" and carry nothing else.

The ingress rings without importing Celery: a message is made in worker/messages.py, and sent through kombu, which
knows every broker; to a Redis as it lies in its list. A bell may be lost, doubled or late: whoever answers looks at the
state server, and the sweeper rings again for whatever is due. So nothing here retries, and a failure is one exception,
``BrokerUnavailable``, that callers count and forget.

Where the broker is the server that holds the state, most bells are not rung here: whoever makes work pushes them there
in the same write (``Carried``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from kombu.connection import Connection
from kombu.messaging import Producer

from worker import tls
from worker.address import Kind
from worker.errors import BrokerUnavailable
from worker.messages import Bell, Messages, publish
from worker.settings import Settings

SEQUENCE_QUEUE: Final = "handoff.sequence"
DELIVER_QUEUE: Final = "handoff.deliver"
SEQUENCE_TASK: Final = "handoff.sequence"
RUN_TASK_PREFIX: Final = "handoff.run."
REDIS_LIKE: Final = ("redis", "valkey", "sentinel", "unix")
BELL_LIFE_MS: Final = 2000
"""How long a rung bell counts as being on its way; after that it is taken for lost and rung again."""


def key_prefix(settings: Settings) -> str:
    """What the names of a Redis broker's lists begin with."""
    return f"{settings.prefix}:broker:"


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
        "global_keyprefix": key_prefix(settings),
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


def sequencer_bell(partition: int, delay: float = 0.0) -> Bell:
    return Bell(SEQUENCE_QUEUE, SEQUENCE_TASK, partition, delay)


def runner_bell(handler: str, queue: str, partition: int, delay: float = 0.0) -> Bell:
    return Bell(queue, run_task(handler), partition, delay)


class Carried:
    """Bells that nobody rings: whoever writes work to the state server pushes them there with it, in the same write."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = key_prefix(settings)
        self._messages = Messages()

    def pushed(self, bell: Bell, ids: tuple[str, str] | None = None) -> tuple[str, bytes]:
        """The key of the list that a bell is to be pushed to (LPUSH), and what; ``ids`` as ``Messages.of`` has them."""
        return self._prefix + bell.queue, self._messages.of(bell, ids)


def carried(settings: Settings) -> Carried | None:
    """None where the bells are on another server than the state, or in another database."""
    if not settings.rings_on_store:
        return None
    parts = urlsplit(settings.address.server_url)
    if parts.scheme != "unix" and "db" in parse_qs(parts.query):  # which redis-py obeys, and kombu does not know
        return None
    return Carried(settings)


class Doorbell:
    """One connection to the broker, made at the first ring and again after a failure. For one thread only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._messages = Messages() if settings.broker.startswith(REDIS_LIKE) else None
        self._producer: Producer | None = None
        self._client: Any = None  # redis-py's, with the prefix and the connections of the producer's channel

    def ring_sequencer(self, partition: int, *, delay: float = 0.0) -> None:
        """Ask for ``partition`` to be sequenced, ``delay`` seconds from now. Raises ``BrokerUnavailable``."""
        self.ring([sequencer_bell(partition, delay)])

    def ring_runner(self, handler: str, queue: str, partition: int, *, delay: float = 0.0) -> None:
        """Ask for the lanes of ``handler`` in ``partition`` to be run. Raises ``BrokerUnavailable``."""
        self.ring([runner_bell(handler, queue, partition, delay)])

    def ring(self, bells: Sequence[Bell]) -> None:
        """Ring them all; in one write, where the broker is a Redis. Raises ``BrokerUnavailable``: then nobody knows
        which have been rung."""
        try:
            producer = self._producer or self._connect()
            if not self._push(bells):
                for bell in bells:
                    publish(producer, bell)
        except Exception as error:
            # Every broker's library has its own errors; whatever it was, this connection is not trusted again.
            self.close()
            task = ", ".join(dict.fromkeys(bell.task for bell in bells))
            raise BrokerUnavailable(f"could not ring {task}: {tls.in_words(error) or type(error).__name__}") from error

    def close(self) -> None:
        producer, self._producer = self._producer, None
        self._client = None
        if producer is not None:
            try:
                producer.connection.release()
            except Exception:  # noqa: BLE001 - a broker that is gone can't be left politely
                return

    def _push(self, bells: Sequence[Bell]) -> bool:
        """Append prepared messages to the queues' lists; False where that can't be done, and kombu is to send them."""
        if self._messages is None:
            return False
        from redis.exceptions import OutOfMemoryError  # not at the top: brokers of other kinds need no redis-py

        with self._client.pipeline(transaction=False) as pipe:
            for bell in bells:
                pipe.lpush(bell.queue, self._messages.of(bell))
            try:
                pipe.execute()
            except OutOfMemoryError:  # a worker's channel can ring all the same (runtime/transport.py)
                return False
        return True

    def _connect(self) -> Producer:
        connection = connection_to(self._settings)
        connect(connection)
        producer = Producer(connection)
        if self._messages is not None:
            with producer.channel.conn_or_acquire() as client:
                self._client = client
        self._producer = producer
        return producer
