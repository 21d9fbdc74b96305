"""The Celery application of the contenders that run one task an event: ``celery -A tests.bench.contenders.celery_app``.

Written as their authors would: JSON parsed in the task, one Redis client a process, nothing clever.
"""

from __future__ import annotations

import json
import os
import uuid
from typing import Any, Final

import redis
from celery import Celery, Task

from tests.bench.names import LIST
from worker.doorbell import transport_options
from worker.settings import Settings

URL_VARIABLE: Final = "BENCH_REDIS_URL"
TUNED_VARIABLE: Final = "BENCH_TUNED"
NEXT: Final = "bench:next:"  # a team's next number; the first is given, which is more than people would know
SEEN, BUFFER, LOCK, WARMED = "bench:seen:", "bench:buffer:", "bench:lock:", "bench:warmed"
DAY: Final = 86_400
LOCK_LIFE: Final = 30  # seconds
TRY_AGAIN: Final = 0.05  # seconds
_UNLOCK: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

_clients: dict[int, redis.Redis] = {}


def broker_options(url: str, tuned: bool) -> dict[str, Any]:
    """What differs between Celery as it comes and Celery with Handoff's way of talking to the broker."""
    return {"broker_transport_options": transport_options(Settings(redis_url=url))} if tuned else {}


_url = os.environ.get(URL_VARIABLE, "redis://")
app = Celery("bench", broker=_url, **broker_options(_url, bool(os.environ.get(TUNED_VARIABLE))))
app.conf.broker_connection_retry_on_startup = True


def _client() -> redis.Redis:
    client = _clients.get(os.getpid())
    if client is None:
        client = _clients[os.getpid()] = redis.Redis.from_url(_url)
    return client


@app.task(name="bench.warm")
def warm() -> None:
    _client().incr(WARMED)


@app.task(name="bench.as_it_comes")
def as_it_comes(body: str) -> None:
    event = json.loads(body)
    if _client().set(SEEN + event["id"], 1, nx=True, ex=DAY):
        _handle(event)


@app.task(name="bench.in_order", bind=True, max_retries=None)
def in_order(self: Task, body: str) -> None:
    """Keep the event aside, and let whoever has the team's lock handle all that is next."""
    client, event = _client(), json.loads(body)
    team: str = event["teamId"]
    if not self.request.retries:
        if not client.set(SEEN + event["id"], 1, nx=True, ex=DAY):
            return
        client.zadd(BUFFER + team, {body: event["seq"]})
    token = uuid.uuid4().hex
    if not client.set(LOCK + team, token, nx=True, ex=LOCK_LIFE):
        raise self.retry(countdown=TRY_AGAIN)
    try:
        _drain(client, team)
    finally:
        client.eval(_UNLOCK, 1, LOCK + team, token)


def _drain(client: redis.Redis, team: str) -> None:
    due = int(client.get(NEXT + team) or 0)
    while True:
        lowest: Any = client.zrange(BUFFER + team, 0, 0, withscores=True)
        if not lowest or int(lowest[0][1]) != due:
            return
        _handle(json.loads(lowest[0][0]))
        due += 1
        client.set(NEXT + team, due)
        client.zrem(BUFFER + team, lowest[0][0])


def _handle(event: dict[str, Any]) -> None:
    _client().rpush(LIST + event["teamId"], event["seq"])
