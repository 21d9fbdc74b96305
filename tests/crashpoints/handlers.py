"""A handler of every kind, for workers that are killed. Each has events of a type of its own; it notes its calls."""

from __future__ import annotations

import asyncio
import json
import os
import time
from functools import cache
from typing import Any, Final

import redis

from tests.crashpoints import calling
from worker import AssigneeChange, Backoff, BatchContext, Context, DeadLetter, Event, Retry, handler
from worker.settings import load_settings

SOON: Final = Backoff(base=0.05, cap=0.05)
SLOW: Final = 1.6  # seconds: the keeper renews meanwhile
SLOWER: Final = 2.6  # seconds: a time slice and the patience after it are over


@cache
def _client(pid: int) -> redis.Redis:
    return redis.Redis.from_url(load_settings().redis_url)


def note(kind: str, subject: Any, attempt: int) -> None:
    """Who was called with what: kept in the server, where a death leaves it."""
    client: Any = _client(os.getpid())
    seconds, micros = client.time()
    record = [subject.seq, os.getpid(), os.getppid(), attempt, seconds * 1000 + micros // 1000]
    client.rpush(f"calls:{subject.team_id}", json.dumps(record))


calling.sink = note


@handler(name="plain", on=("kind.plain",), breaker=None)
def plain(event: Event, ctx: Context) -> None:
    calling.effect("plain", event, ctx.attempt)


@handler(name="slow", on=("kind.slow",), breaker=None)
def slow(event: Event, ctx: Context) -> None:
    calling.effect("slow", event, ctx.attempt)
    if event.seq == 1:
        time.sleep(SLOW)  # what it stands for: a far side that takes its time


@handler(name="coroutine", on=("kind.coroutine",), breaker=None)
async def coroutine(event: Event, ctx: Context) -> None:
    calling.effect("coroutine", event, ctx.attempt)
    await asyncio.sleep(0.01)


@handler(name="threads", on=("kind.threads",), concurrency=4, breaker=None)
def threads(event: Event, ctx: Context) -> None:
    calling.effect("threads", event, ctx.attempt)
    if event.seq == 1:
        time.sleep(SLOWER)


@handler(name="batch", on=("kind.batch",), batch=4, batch_wait=0.05, breaker=None)
def batch(events: list[Event], ctx: BatchContext) -> None:
    for event, attempt in zip(events, ctx.attempts, strict=True):
        calling.effect("batch", event, attempt)


@handler(name="conflating", conflate=True, breaker=None)
def conflating(change: AssigneeChange, ctx: Context) -> None:
    calling.effect("conflating", change, ctx.attempt)


@handler(name="retrying", on=("kind.retrying",), backoff=SOON, breaker=None)
def retrying(event: Event, ctx: Context) -> None:
    if event.seq == 2 and ctx.attempt == 1:
        raise Retry(after=0.05)
    calling.effect("retrying", event, ctx.attempt)


@handler(name="burying", on=("kind.burying",), breaker=None)
def burying(event: Event, ctx: Context) -> None:
    if event.seq == 2:
        raise DeadLetter("no")
    calling.effect("burying", event, ctx.attempt)


@handler(name="rated", on=("kind.rated",), rate="1000/1s", team_rate="500/1s", breaker=None)
def rated(event: Event, ctx: Context) -> None:
    calling.effect("rated", event, ctx.attempt)
