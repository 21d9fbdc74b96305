"""Clients of the state server, made the one way that is safe here.

redis-py 8 retries every command ten times by default; a server that drops its replies would get one XADD eleven times.
Handoff's scripts are safe to repeat because each checks its token, but appending is not, and hidden retries
turn a two-second answer into a minute. So: no retries, explicit time-outs, RESP3 left to the library, bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import hiredis
import redis
import redis.asyncio
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from worker import tls
from worker.address import EXAMPLES, Address, Host, Kind
from worker.errors import ConfigurationError, StoreUnavailable
from worker.settings import Settings
from worker.store.cluster import ClusterClient
from worker.store.layout import Layout
from worker.store.primary import AsyncPrimaryPool, PrimaryPool

CONNECT_TIMEOUT = 1.0  # seconds
COMMAND_TIMEOUT = 3.0  # seconds; a script over thousands of events takes milliseconds, and no lease is longer than 4 s
SENTINEL_TIMEOUT = 0.4  # seconds; two of five may be away, and a delivery still has its answer in time
ASK_TIMEOUT = 1.0  # seconds for a node of a cluster to say how the keys are spread; then another one is asked


def connect(settings: Settings, *, timeout: float = COMMAND_TIMEOUT) -> redis.Redis:
    """A client for one thread or process; lazily connected, so it never fails but on a malformed URL.

    ``timeout`` is seconds for an answer. Behind Sentinels, a new connection goes to the primary that they name; to a
    cluster, each command to the node that has its keys (store/cluster.py). Raises ``ConfigurationError`` naming
    ``HANDOFF_REDIS_URL``.
    """
    address = settings.address
    options = _options(address, timeout) | {"retry": Retry(NoBackoff(), 0), "command_packer": _Packer()}
    try:
        if address.kind is Kind.CLUSTER:
            return ClusterClient(
                layout_of(address), lambda host: _reading(redis.Redis.from_url(address.url_of(host), **options))
            )
        if address.kind is Kind.SENTINEL:
            sentinels = Sentinel(
                _pairs(address), sentinel_kwargs=_sentinel_options(address) | {"retry": options["retry"]}
            )
            pool = PrimaryPool(address.service, sentinels, **_server_options(address), **options)
            return _reading(redis.Redis.from_pool(pool))
        return _reading(redis.Redis.from_url(address.server_url, **options))
    except ValueError as error:
        raise _malformed(error) from None


def layout_of(address: Address) -> Layout:
    """What is known of a cluster's nodes: nothing yet. They are asked over connections of their own, which wait less
    long: whoever asks has just seen one fail."""
    options = _options(address, ASK_TIMEOUT) | {"retry": Retry(NoBackoff(), 0)}

    def ask(host: Host) -> Any:
        with redis.Redis.from_url(address.url_of(host), **options) as node:
            return node.execute_command("CLUSTER SLOTS")

    return Layout(address.hosts, ask)


def pool_async(address: Address, *, connections: int, host: Host | None = None) -> redis.asyncio.ConnectionPool:
    """Connections for an event loop to the server or primary, or to one node of a cluster: ``host``.

    At most so many; they have no time limit for answers: whoever uses one puts its own around that. Raises
    ``ConfigurationError`` naming ``HANDOFF_REDIS_URL``.
    """
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.asyncio.sentinel import Sentinel as AsyncSentinel

    retry = AsyncRetry(NoBackoff(), 0)
    options = _options(address, None) | {"retry": retry, "max_connections": connections}
    try:
        if address.kind is Kind.SENTINEL:
            sentinels = AsyncSentinel(_pairs(address), sentinel_kwargs=_sentinel_options(address) | {"retry": retry})
            return AsyncPrimaryPool(address.service, sentinels, **_server_options(address), **options)
        url = address.server_url if host is None else address.url_of(host)
        return redis.asyncio.BlockingConnectionPool.from_url(url, timeout=None, **options)
    except ValueError as error:
        raise _malformed(error) from None


def _reading(client: redis.Redis) -> redis.Redis:
    # Entries as the server sends them, [id, [field, value, ...]]: making a dict of each costs more than reading it.
    client.set_response_callback("XRANGE", _as_sent)
    return client


def _options(address: Address, timeout: float | None) -> dict[str, Any]:
    """What redis-py takes for any connection; for one over a file it would raise ``TypeError`` at some of it."""
    options: dict[str, Any] = {"socket_timeout": timeout, "client_name": "handoff"}
    options["driver_info"] = None  # CLIENT SETINFO is one more right to give, and none that Redis 7.0 knows
    if not address.server_url.startswith("unix://"):
        options |= {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_keepalive": True}
    return options


def _server_options(address: Address) -> dict[str, Any]:
    """What the URL says of the servers behind Sentinels, who say where those are."""
    found = {**parse_url(address.server_url), "ssl": address.tls}
    for name in ("host", "port", "connection_class"):
        found.pop(name, None)
    return found


def _sentinel_options(address: Address) -> dict[str, Any]:
    options = {name: value for name, value in _server_options(address).items() if name.startswith("ssl")}
    options |= {
        "driver_info": None,
        "username": address.sentinel_user or None,
        "password": address.sentinel_password or None,
    }
    return options | {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}


def _pairs(address: Address) -> list[tuple[str, int]]:
    return [(host.name, host.port) for host in address.hosts]


# Error replies that a server takes back by itself or by an operator's hand; all others are faults of ours. redis-py
# makes classes of some and takes their first word away, but not of those that a script passes on. "DB index": SELECT of
# a database that the server does not have, at the first command.
_FOR_NOW = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,
)
_FOR_NOW_WORDS = (
    "READONLY", "OOM", "LOADING", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOPERM", "DB index",
    "TRYAGAIN", "Script attempted to access a non local key",
)  # fmt: skip


@contextmanager
def unavailable_as_error() -> Iterator[None]:
    """Turns redis-py's ways of saying "not now" into ``StoreUnavailable`` with one line that has no secret in it."""
    try:
        yield
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        if about_tls := tls.in_words(error):
            raise StoreUnavailable(f"no TLS connection to the state server: {about_tls}") from error
        raise StoreUnavailable(f"the state server does not answer: {describe(error)}") from error
    except redis.exceptions.ResponseError as error:
        if lacks_right(error):
            raise StoreUnavailable(f"the state server refuses: {describe(error)} ({RIGHTS})") from error
        if isinstance(error, _FOR_NOW) or str(error).startswith(_FOR_NOW_WORDS):
            raise StoreUnavailable(f"the state server refuses: {describe(error)}") from error
        raise


RIGHTS: Final = "deploy/users.acl has the commands and keys that each user needs"


def lacks_right(error: BaseException | None) -> bool:
    """Whether the server's user may not do what was asked: a command, or on that key; a script's, too."""
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.exceptions.ResponseError) and "NOPERM" in str(error)
    )


def describe(error: BaseException) -> str:
    """An error in one line. redis-py's texts name host and port and never the password."""
    if isinstance(error, MasterNotFoundError | AsyncMasterNotFoundError):
        return "no Sentinel that answers knows a primary of that name that is up"
    return " ".join((str(error) or type(error).__name__).split())[:300]


class _Packer:
    """redis-py's own way of packing commands, without its look at each word: a commit has thousands of them."""

    def pack(self, *words: Any) -> list[bytes]:
        name = words[0]
        if isinstance(name, str) and " " in name:  # "SCRIPT LOAD" and such are two words on the wire
            words = (*name.split(), *words[1:])
        return [hiredis.pack_command(words)]


def _as_sent(response: object, **_: object) -> object:
    return response


def _malformed(error: ValueError) -> ConfigurationError:
    return ConfigurationError(
        "HANDOFF_REDIS_URL",
        describe(error),
        EXAMPLES[""],
    )
