"""Handlers that kill their process, hang it, or outlast it: each call leaves a line in Redis as it begins and ends.

Leases and limits are shortened for the worker that imports this: a test need not wait four seconds for each crash.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import resource
import signal
import threading
import time

import redis

from worker import Context, Event, handler
from worker.runtime import keeper, tasks
from worker.store import lanes

lanes.LEASE_MS = 1000  # type: ignore[misc]
keeper.PERIOD = 0.2  # type: ignore[misc]
keeper.GRACE = 0.5  # type: ignore[misc]
tasks.HARD_GRACE = 2.0  # type: ignore[misc]

_clients: dict[int, redis.Redis] = {}


def client() -> redis.Redis:
    if os.getpid() not in _clients:
        _clients[os.getpid()] = redis.Redis.from_url(os.environ["TESTS_REDIS_URL"], decode_responses=True)
    return _clients[os.getpid()]


def eat() -> None:
    """Ask for more than the process may have."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, limits[1]))
    try:
        bytearray(1 << 32)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


DEATHS = {
    "exit": lambda: os._exit(7),
    "segfault": lambda: ctypes.string_at(0),
    "oom": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": eat,
}


def swallow() -> None:
    """Catches every interruption, and goes on."""
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


HANGS = {
    "sleep": lambda: time.sleep(600),
    "swallow": swallow,
    "greedy": lambda: any(itertools.repeat(False)),  # in C, for ever, and gives the interpreter to nobody
}


def note(event: Event, ctx: Context, what: str) -> None:
    client().rpush(f"{ctx.handler}:{event.team_id}", f"{what} {event.seq} {ctx.attempt}")


@handler(on="rough.deadly", attempts=2)
def deadly(event: Event, ctx: Context) -> None:
    note(event, ctx, "begin")
    if event.seq == 2 and event.team_id in DEATHS:
        DEATHS[event.team_id]()
    note(event, ctx, "end")


@handler(on="rough.hanging", attempts=1, timeout=1)
def hanging(event: Event, ctx: Context) -> None:
    note(event, ctx, "begin")
    if event.seq == 2 and event.team_id in HANGS:
        HANGS[event.team_id]()
    note(event, ctx, "end")


@handler(on="rough.blocking", attempts=1, timeout=1)
async def blocking(event: Event, ctx: Context) -> None:
    note(event, ctx, "begin")
    if event.seq == 2 and event.team_id == "async":
        time.sleep(600)  # noqa: ASYNC251 - as somebody might who knows no better
    note(event, ctx, "end")


@handler(on="rough.stuck", attempts=1, timeout=1, concurrency=4)
def stuck(event: Event, ctx: Context) -> None:
    note(event, ctx, "begin")
    if event.seq == 2 and event.team_id == "thread":
        threading.Event().wait()
    note(event, ctx, "end")


@handler(on="rough.lengthy", attempts=2, timeout=30)
async def lengthy(event: Event, ctx: Context) -> None:
    note(event, ctx, "begin")
    while event.seq == 2 and event.team_id.startswith("long") and not client().exists("go on"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    note(event, ctx, "end")


@handler(on="rough.late", attempts=2, timeout=1, concurrency=4)
def late(event: Event, ctx: Context) -> None:
    """Its first attempt outlasts the limit by far, and then ends well."""
    note(event, ctx, "begin")
    while ctx.attempt == 1 and not client().exists("be late"):
        time.sleep(0.02)
    note(event, ctx, "end")


@handler(on="rough.pair", attempts=9)
def pair(event: Event, ctx: Context) -> None:
    """Ends when two of its calls run at once: it takes two processes that have nothing else to do."""
    client().sadd("pair", event.team_id)
    while client().scard("pair") < 2:
        time.sleep(0.02)
    note(event, ctx, "end")
