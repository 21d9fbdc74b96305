"""The handler as most people would write it: plain, one round trip to Redis an event."""

from __future__ import annotations

import os

import redis

from tests.bench.names import LIST
from worker import Context, Event, handler

_clients: dict[int, redis.Redis] = {}


@handler(name="append", on="*")
def append(event: Event, ctx: Context) -> None:
    _client().rpush(LIST + event.team_id, event.seq)


def _client() -> redis.Redis:
    """Made at the first call, for a connection does not survive a fork."""
    client = _clients.get(os.getpid())
    if client is None:
        client = _clients[os.getpid()] = redis.Redis.from_url(os.environ["HANDOFF_REDIS_URL"])
    return client
