"""Asks the state servers. Nothing is written, and what a user may not ask is noted, not raised."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import redis

from worker.errors import StoreError, StoreUnavailable
from worker.ops.doctor.facts import Node
from worker.ops.installed import named
from worker.store.client import unavailable_as_error

DIRECTIVES: Final = (
    *("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "aof-load-truncated"),
    *("maxmemory-policy", "maxmemory", "timeout"),
)


def address_of(url: str) -> str:
    """Where a server is, without what may be secret of its URL."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    host = parts.hostname or "127.0.0.1"
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or 6379}"


def ask(client: redis.Redis, address: str) -> Node:
    """What one server says of itself. Never raises for a server's fault: see ``Node.error``."""
    try:
        with named(), unavailable_as_error():
            return _ask(client, address)
    except StoreUnavailable as error:
        return Node(address, error=str(error).removeprefix("HANDOFF_REDIS_URL: "))
    except StoreError as error:
        return Node(address, error=str(error).removeprefix("HANDOFF_REDIS_URL: "))


def _ask(client: redis.Redis, address: str) -> Node:
    info: Any = client.info()
    pipe = client.pipeline(transaction=False)
    for directive in DIRECTIVES:  # one by one: servers before 7.0 take no more, and must be told that they are old
        pipe.execute_command("CONFIG GET", directive)
    config: dict[str, str] = {}
    refused: list[str] = []
    for answer in pipe.execute(raise_on_error=False):
        if isinstance(answer, redis.exceptions.ResponseError):
            refused.append("CONFIG GET")
        elif isinstance(answer, Exception):
            raise answer
        else:
            config |= {_text(name): _text(value) for name, value in answer.items()}
    return Node(address, info=info, config=config, refused=tuple(dict.fromkeys(refused)))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
