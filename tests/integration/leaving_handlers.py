"""Handlers of every kind whose calls last until they are told to go on: each leaves a line in Redis at begin and end.

A lease is as good as endless for the worker that imports this: what was not handed back would never be taken again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import redis

from worker import BatchContext, Context, Event, handler
from worker.store import lanes

lanes.LEASE_MS = int(os.environ.get("LEASE_MS", "600000"))  # type: ignore[misc]

_clients: dict[int, redis.Redis] = {}


def client() -> redis.Redis:
    if os.getpid() not in _clients:
        _clients[os.getpid()] = redis.Redis.from_url(os.environ["TESTS_REDIS_URL"], decode_responses=True)
    return _clients[os.getpid()]


def note(name: str, event: Event, attempt: int, what: str) -> None:
    client().rpush(f"{name}:{event.team_id}", f"{what} {event.seq} {attempt}")


def lasts(event: Event) -> bool:
    return event.seq == 2 and not client().exists("go on")


def wait(event: Event) -> None:
    while lasts(event):
        time.sleep(0.02)


@handler(on="leaving.plain", timeout=300)
def plain(event: Event, ctx: Context) -> None:
    note("plain", event, ctx.attempt, "begin")
    wait(event)
    note("plain", event, ctx.attempt, "end")


@handler(on="leaving.coroutine", timeout=300)
async def coroutine(event: Event, ctx: Context) -> None:
    note("coroutine", event, ctx.attempt, "begin")
    while lasts(event):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    note("coroutine", event, ctx.attempt, "end")


@handler(on="leaving.thread", timeout=300, concurrency=4)
def thread(event: Event, ctx: Context) -> None:
    note("thread", event, ctx.attempt, "begin")
    wait(event)
    note("thread", event, ctx.attempt, "end")


@handler(on="leaving.stubborn", timeout=300)
def stubborn(event: Event, ctx: Context) -> None:
    """Catches every interruption, and goes on."""
    note("stubborn", event, ctx.attempt, "begin")
    while lasts(event):
        swallowing(lambda: wait(event))
    note("stubborn", event, ctx.attempt, "end")


def swallowing(work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException:  # what nobody should do
        return


@handler(on="leaving.blocking", timeout=300)
async def blocking(event: Event, ctx: Context) -> None:
    """Does not await, and so keeps its event loop from everything else."""
    note("blocking", event, ctx.attempt, "begin")
    wait(event)
    note("blocking", event, ctx.attempt, "end")


@handler(on="leaving.batch", batch=10, batch_wait=0, timeout=300)
async def batch(events: list[Event], ctx: BatchContext) -> None:
    for event, attempt in zip(events, ctx.attempts, strict=True):
        note("batch", event, attempt, "begin")
    while any(lasts(event) for event in events):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    for event, attempt in zip(events, ctx.attempts, strict=True):
        note("batch", event, attempt, "end")


@handler(on="leaving.plainbatch", batch=10, batch_wait=0, timeout=300)
def plainbatch(events: list[Event], ctx: BatchContext) -> None:
    for event, attempt in zip(events, ctx.attempts, strict=True):
        note("plainbatch", event, attempt, "begin")
    for event in events:
        wait(event)
    for event, attempt in zip(events, ctx.attempts, strict=True):
        note("plainbatch", event, attempt, "end")
