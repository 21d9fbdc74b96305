"""Whether a server's confirmation can mean that its disk has what was written: for ``HANDOFF_DURABILITY=fsync``.

WAITAOF (redis.io/commands/waitaof; Redis and Valkey 7.2+) is asked after the writes of a connection, and answers how
many local append-only files have them on the disk: 1 or 0. It is believed with ``appendfsync always`` alone. With
``everysec`` some answer 1 before they have asked the disk (github.com/redis/redis/pull/13793; Valkey 9.1.2 gave
345 confirmations for 4 calls of fdatasync), and the others after a second or more, which is too late for a webhook.
With ``no-appendfsync-on-rewrite`` nothing is sent to the disk for as long as the file is rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import redis
import redis.exceptions

from worker.errors import ConfigurationError, StoreUnavailable
from worker.store.client import unavailable_as_error
from worker.store.cluster import servers

SETTING: Final = "HANDOFF_DURABILITY"
REMEDY: Final = "or set HANDOFF_DURABILITY=server"
QUESTIONS: Final[Sequence[tuple[str | int, ...]]] = (("WAITAOF", 1, 0, 1), ("CONFIG GET", "*appendfsync*"))
"""Commands whose answers ``why_not`` takes: the first waits for a millisecond at most, and writes nothing."""


class Lack(NamedTuple):
    """What keeps a server from it, and what to change."""

    problem: str
    remedy: str


def why_not(answers: Sequence[Any]) -> Lack | None:
    """What the ``answers`` to ``QUESTIONS`` lack; errors of redis-py's stand for themselves.

    Raises what is no answer to the question: a lost connection, a replica, a server that loads its data.
    """
    flushed, config = answers
    if isinstance(flushed, redis.exceptions.NoPermissionError):
        return Lack("the server's user may not use WAITAOF", "allow it +waitaof")
    if isinstance(flushed, redis.exceptions.ResponseError):
        text = str(flushed).lower()
        if "unknown command" in text:
            return Lack("this server has no WAITAOF", "use Redis 7.2+ or Valkey 7.2+")
        if "appendonly is disabled" in text:
            return Lack("this server has no append-only file", "set appendonly yes")
        if "replica instances" in text:
            raise StoreUnavailable("the state server refuses: it is a replica")
    if isinstance(flushed, Exception):
        raise flushed
    if isinstance(config, redis.exceptions.NoPermissionError):
        return Lack("the server's user may not read appendfsync", "allow it +config|get")
    if isinstance(config, Exception):
        raise config
    return lack_of(config)


def lack_of(config: Mapping[Any, Any]) -> Lack | None:
    """What directives lack that name ``appendfsync`` and ``no-appendfsync-on-rewrite``."""
    found = {_text(name): _text(value) for name, value in config.items()}
    if (sync := found.get("appendfsync")) != "always":
        problem = f"this server has appendfsync {sync}, with which WAITAOF is late or answers before the disk has it"
        return Lack(problem, "set appendfsync always")
    if found.get("no-appendfsync-on-rewrite") == "yes":
        problem = "this server has no-appendfsync-on-rewrite yes, so nothing reaches its disk during a rewrite"
        return Lack(problem, "set no-appendfsync-on-rewrite no")
    return None


def check(client: redis.Redis) -> None:
    """Raises ``ConfigurationError`` where the server can't, and ``StoreUnavailable`` where it can't be asked."""
    lack = lacking(client)
    if lack is not None:
        raise error_of(lack)


def lacking(client: redis.Redis) -> Lack | None:
    """What the server lacks, or the first node of a cluster that lacks something. A node that is away is passed over as
    long as another one answers: it stores nothing either. Raises ``StoreUnavailable``."""
    error: StoreUnavailable | None = None
    asked = False
    with unavailable_as_error():
        each = servers(client)
    for server in each:
        try:
            with unavailable_as_error():
                pipe = server.pipeline(transaction=False)
                for question in QUESTIONS:
                    pipe.execute_command(*question)
                lack = why_not(pipe.execute(raise_on_error=False))
        except StoreUnavailable as away:
            error = away
            continue
        asked = True
        if lack is not None:
            return lack
    if error is not None and not asked:
        raise error
    return None


def error_of(lack: Lack) -> ConfigurationError:
    return ConfigurationError(SETTING, f"is fsync, but {lack.problem}", f"{lack.remedy}, {REMEDY}")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
