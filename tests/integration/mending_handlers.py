"""Handlers that fail for as long as the key ``broken`` is there, and else leave a line for each call."""

from __future__ import annotations

import os

import redis

from worker import AssigneeChange, Context, handler

_clients: dict[int, redis.Redis] = {}


def _call(name: str, change: AssigneeChange) -> None:
    if os.getpid() not in _clients:
        _clients[os.getpid()] = redis.Redis.from_url(os.environ["TESTS_REDIS_URL"], decode_responses=True)
    client = _clients[os.getpid()]
    if client.exists("broken"):
        raise RuntimeError("broken")
    marks = ("late" if change.late else "ordered") + (" stale" if change.stale else "")
    client.rpush(f"{name}:{change.team_id}", f"{change.seq} {marks}")


@handler(name="skipping", attempts=1, breaker=None)
def skipping(change: AssigneeChange, _ctx: Context) -> None:
    _call("skipping", change)


@handler(name="blocking", attempts=1, breaker=None, on_exhausted="block")
def blocking(change: AssigneeChange, _ctx: Context) -> None:
    _call("blocking", change)
