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
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker import tls
from worker.errors import ConfigurationError, StoreUnavailable
from worker.settings import Settings

CONNECT_TIMEOUT = 1.0  # seconds
COMMAND_TIMEOUT = 3.0  # seconds; a script over thousands of events takes milliseconds, and no lease is longer than 4 s


def connect(settings: Settings, *, timeout: float = COMMAND_TIMEOUT) -> redis.Redis:
    """A client for one thread or process; lazily connected, so it never fails but on a malformed URL.

    Raises ``ConfigurationError`` naming ``HANDOFF_REDIS_URL``.
    """
    try:
        client = redis.Redis.from_url(
            settings.redis_url,
            socket_timeout=timeout,
            **_socket_options(settings),
            retry=Retry(NoBackoff(), 0),
            client_name="handoff",
            driver_info=None,  # CLIENT SETINFO is one more right to give, and none that Redis 7.0 knows
            command_packer=_Packer(),
        )
    except ValueError as error:
        raise _malformed(error) from None
    # Entries as the server sends them, [id, [field, value, ...]]: making a dict of each costs more than reading it.
    client.set_response_callback("XRANGE", _as_sent)
    return client


def connect_async(
    settings: Settings, *, timeout: float | None = COMMAND_TIMEOUT, connections: int = 8
) -> redis.asyncio.Redis:
    """The same for an event loop, with at most ``connections`` sockets; a caller waits for a free one.

    ``timeout=None``: the caller puts a limit of its own around what it does.
    """
    from redis.asyncio.retry import Retry as AsyncRetry

    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=connections,
            timeout=timeout,
            socket_timeout=timeout,
            **_socket_options(settings),
            retry=AsyncRetry(NoBackoff(), 0),
            client_name="handoff",
            driver_info=None,
        )
    except ValueError as error:
        raise _malformed(error) from None
    return redis.asyncio.Redis.from_pool(pool)


def _socket_options(settings: Settings) -> dict[str, Any]:
    """What redis-py takes for a connection over a network; for one over a file it would raise ``TypeError``."""
    if settings.redis_url.startswith("unix://"):
        return {}
    return {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_keepalive": True}


# Error replies that a server takes back by itself or by an operator's hand; all others are faults of ours. redis-py
# makes classes of some and takes their first word away, but not of those that a script passes on. "DB index": SELECT of
# a database that the server does not have, at the first command.
_FOR_NOW = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
)
_FOR_NOW_WORDS = (
    "READONLY", "OOM", "LOADING", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOPERM", "DB index"
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
        "for instance redis://127.0.0.1:6379/0 or rediss://user:password@host:6380/0",
    )
