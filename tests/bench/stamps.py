"""Two handlers that write down when they were called. The clock is the machine's, the same for all its processes."""

from __future__ import annotations

import os
import time

import redis

from worker import Context, Event, handler

STAMPS = "bench:stamps"
_clients: dict[int, redis.Redis] = {}


@handler(name="first", on="*")
def first(event: Event, ctx: Context) -> None:
    _stamp("first", time.monotonic(), event.seq)


@handler(name="second", on="*")
def second(event: Event, ctx: Context) -> None:
    _stamp("second", time.monotonic(), event.seq)


def _stamp(handler: str, now: float, seq: int) -> None:
    client = _clients.get(os.getpid())
    if client is None:
        client = _clients[os.getpid()] = redis.Redis.from_url(os.environ["HANDOFF_REDIS_URL"])
    client.rpush(STAMPS, f"{handler} {seq} {now!r}")
