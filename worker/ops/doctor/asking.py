"""Asks the state servers. Nothing is written, and what a user may not ask is noted, not raised."""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis

from worker.errors import StoreError
from worker.ops.doctor.facts import Clock, Machine, Node
from worker.ops.installed import named
from worker.store.client import lacks_right, unavailable_as_error

DIRECTIVES: Final = (
    *("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "aof-load-truncated"),
    *("stop-writes-on-bgsave-error", "maxmemory-policy", "timeout"),
)
LOOKS: Final = 5  # at the clock; the quickest counts


def address_of(url: str) -> str:
    """Where a server is, without what may be secret of its URL."""
    parts = urlsplit(url)
    if parts.scheme.endswith(("unix", "+socket")):
        return parts.path
    host = parts.hostname or "127.0.0.1"
    port = f":{parts.port}" if parts.port else ":6379" if parts.scheme.startswith("redis") else ""
    return f"{f'[{host}]' if ':' in host else host}{port}"


def is_local(address: str) -> bool:
    """Whether a server at ``address`` is on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    if address.startswith("/") or host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def ask(client: redis.Redis, address: str) -> Node:
    """What one server says of itself. Never raises for a server's fault: see ``Node.error``."""
    try:
        with named(), unavailable_as_error():
            return _ask(client, address)
    except StoreError as error:
        return Node(address, error=str(error).removeprefix("HANDOFF_REDIS_URL: "))


def _ask(client: redis.Redis, address: str) -> Node:
    info: Any = client.info()
    pipe = client.pipeline(transaction=False)
    for directive in DIRECTIVES:  # one by one: servers before 7.0 take no more, and must be told that they are old
        pipe.execute_command("CONFIG GET", directive)
    config: dict[str, str] = {}
    refused: set[str] = set()
    for answer in pipe.execute(raise_on_error=False):
        if isinstance(answer, redis.exceptions.ResponseError):
            refused.add("CONFIG GET")
        elif isinstance(answer, Exception):
            raise answer
        else:
            config |= {_text(name): _text(value) for name, value in answer.items()}
    try:
        clock = _clock(client)
    except redis.exceptions.ResponseError as error:
        if not lacks_right(error):
            raise
        refused.add("TIME")
        clock = None
    machine = _machine() if is_local(address) else None
    return Node(address, info=info, config=config, refused=sorted(refused), clock=clock, machine=machine)


def _clock(client: redis.Redis) -> Clock:
    """The server's clock was read between two looks at ours, so it can't differ from the middle by more than half."""
    found = []
    for _ in range(LOOKS):
        before = time.time()
        answer: Any = client.time()
        after = time.time()
        error = (after - before) / 2
        found.append(Clock((before + error - answer[0] - answer[1] / 1e6) * 1000, error * 1000))
    return min(found, key=lambda clock: clock.error)


def _machine() -> Machine:
    available = overcommit = None
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with suppress(OSError, ValueError):
        overcommit = int(Path("/proc/sys/vm/overcommit_memory").read_text())
    return Machine(available, overcommit)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
