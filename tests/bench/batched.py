"""The handler as a batch handler: one pipeline a call, whatever came in it."""

from __future__ import annotations

import os
from collections import defaultdict

import redis

from tests.bench.arena import LIST
from worker import BatchContext, Event, handler

_clients: dict[int, redis.Redis] = {}


@handler(name="append", on="*", batch=256, batch_wait=0)
def append(events: list[Event], ctx: BatchContext) -> None:
    by_team: dict[str, list[int]] = defaultdict(list)
    for event in events:
        by_team[event.team_id].append(event.seq)
    with _client().pipeline(transaction=False) as pipe:
        for team, seqs in by_team.items():
            pipe.rpush(LIST + team, *seqs)
        pipe.execute()


def _client() -> redis.Redis:
    """Made at the first call, for a connection does not survive a fork."""
    client = _clients.get(os.getpid())
    if client is None:
        client = _clients[os.getpid()] = redis.Redis.from_url(os.environ["HANDOFF_REDIS_URL"])
    return client
