"""Two handlers that take every event, plain and async; each call leaves a line in Redis at begin and end."""

from __future__ import annotations

import asyncio
import os
import time

import redis

from worker import Context, Event, handler

_clients: dict[int, redis.Redis] = {}


def note(event: Event, ctx: Context, what: str) -> None:
    if os.getpid() not in _clients:
        _clients[os.getpid()] = redis.Redis.from_url(os.environ["HANDOFF_REDIS_URL"])
    line = f"{what} {event.seq} {event.id} {ctx.attempt} {time.time():.3f}"
    _clients[os.getpid()].rpush(f"calls:{ctx.handler}:{event.team_id}", line)


@handler(on="rolling.*", timeout=20)
def plain(event: Event, ctx: Context) -> None:
    note(event, ctx, "begin")
    time.sleep(event.data["seconds"])
    note(event, ctx, "end")


@handler(on="rolling.*", timeout=20)
async def coroutine(event: Event, ctx: Context) -> None:
    note(event, ctx, "begin")
    await asyncio.sleep(event.data["seconds"])
    note(event, ctx, "end")
