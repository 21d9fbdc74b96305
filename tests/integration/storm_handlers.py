"""The handlers of the storm: each call leaves a line in Redis that says who and what; some calls fail at first."""

from __future__ import annotations

import os

import redis

from worker import AssigneeChange, Backoff, Context, Event, handler

_clients: dict[int, redis.Redis] = {}


def _client() -> redis.Redis:
    if os.getpid() not in _clients:
        _clients[os.getpid()] = redis.Redis.from_url(os.environ["TESTS_REDIS_URL"], decode_responses=True)
    return _clients[os.getpid()]


def _line(event: Event) -> str:
    return f"{event.seq} {event.id} {'late' if event.late else 'ordered'}"


@handler(name="every", on="*", backoff=Backoff(base=0.05, cap=0.2))
def every(event: Event, ctx: Context) -> None:
    """Gets all events. One in fifty fails once before anything is written, which must not let the next one pass."""
    if event.seq % 50 == 0 and ctx.attempt == 1:
        raise ConnectionError("the far side hung up")
    _client().rpush(f"every:{event.team_id}", _line(event))


@handler(name="changes")
async def changes(change: AssigneeChange, ctx: Context) -> None:
    """Gets changes of owners, and keeps what the far side would show."""
    pipe = _client().pipeline()
    pipe.rpush(f"changes:{change.team_id}", _line(change.event))
    pipe.hset(f"owners:{change.team_id}", change.prospect.key, change.assignee_id or "")
    pipe.execute()
