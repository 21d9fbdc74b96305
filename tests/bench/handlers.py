"""The handler of the benchmark: appends each event's seq to its team's list, and counts.

One pipeline per event, as people would write it; the connection is made at the first call, after the fork.
"""

from __future__ import annotations

import os
import time

import redis

from worker import Context, Event, handler

_clients: dict[int, redis.Redis] = {}


def _client() -> redis.Redis:
    client = _clients.get(os.getpid())
    if client is None:
        client = _clients[os.getpid()] = redis.Redis.from_url(os.environ["HANDOFF_REDIS_URL"])
    return client


@handler(name="append", on="*")
def append(event: Event, ctx: Context) -> None:
    _client().rpush(f"bench:{event.team_id}", event.seq)


@handler(name="stamp", on="stamp.*")
def stamp(event: Event, ctx: Context) -> None:
    """For latency: when did the handler start? The clock is the machine's, the same for all processes on it."""
    _client().rpush("bench:stamps", f"{event.id} {time.monotonic()}")
