"""The handlers of the chaos runs: one of each kind. Each call records its start and its end, in a file that no fault
touches; some events ask for trouble in their data, which the handlers that are for it give them.

    every      plain, every event, by team        async ones wait a moment, as for a far side
    prospects  async, by prospect; hangs when asked to, in one lane of many
    flaky      plain, by team; fails when asked to (for good: a dead letter), or ends its process
    synced     async and conflating
    batched    plain, up to 20 at once
    slow       plain, on a queue and workers of its own; hangs when asked to
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.chaos import recorder, witness
from tests.chaos.terms import SLOW_QUEUE
from worker import AssigneeChange, Backoff, BatchContext, Context, Event, handler

QUICK: Final = Backoff(base=0.1, cap=0.5)
PATIENT: Final = 50  # attempts: killed calls count, and a long run kills many

FLAKY_ATTEMPTS: Final = 3

witness.install()


class Asked(RuntimeError):
    """The event's data asked for a failure."""


def begin(name: str, subject: AssigneeChange | Event, attempt: int) -> int:
    """Record the start of a call; its number."""
    number = recorder.number()
    event = subject if isinstance(subject, Event) else subject.event
    prospect, assignee, stale, absorbed = None, None, False, []
    if isinstance(subject, AssigneeChange):
        prospect, assignee = subject.prospect.key, subject.assignee_id
        stale, absorbed = subject.stale, list(subject.absorbed)
    words = (name, event.id, event.team_id, event.seq, attempt, event.late, stale, prospect, assignee, absorbed)
    recorder.write("start", number, time.monotonic(), *words)
    return number


def end(number: int, outcome: str) -> None:
    recorder.write("end", number, time.monotonic(), outcome)


@contextmanager
def recorded(name: str, subject: AssigneeChange | Event, attempt: int) -> Iterator[None]:
    number = begin(name, subject, attempt)
    try:
        yield
    except BaseException:
        end(number, "failed")
        raise
    end(number, "done")


def trouble(subject: AssigneeChange | Event) -> dict[str, Any]:
    event = subject if isinstance(subject, Event) else subject.event
    asked = event.data.get("chaos")
    return asked if isinstance(asked, dict) else {}


@handler(name="every", on="*", attempts=PATIENT, backoff=QUICK)
def every(event: Event, ctx: Context) -> None:
    with recorded("every", event, ctx.attempt):
        pass


@handler(name="prospects", order_by="prospect", attempts=PATIENT, backoff=QUICK, timeout=60)
async def prospects(change: AssigneeChange, ctx: Context) -> None:
    with recorded("prospects", change, ctx.attempt):
        await asyncio.sleep(trouble(change).get("hang", 0.005))


@handler(name="flaky", attempts=FLAKY_ATTEMPTS, backoff=QUICK, breaker=None)
def flaky(change: AssigneeChange, ctx: Context) -> None:
    asked = trouble(change)
    if asked.get("exit"):
        begin("flaky", change, ctx.attempt)
        recorder.write("exit", time.monotonic())
        os._exit(9)
    with recorded("flaky", change, ctx.attempt):
        if asked.get("fail", 0) >= ctx.attempt:
            raise Asked


@handler(name="synced", conflate=True, attempts=PATIENT, backoff=QUICK)
async def synced(change: AssigneeChange, ctx: Context) -> None:
    with recorded("synced", change, ctx.attempt):
        await asyncio.sleep(0.005)


@handler(name="batched", batch=20, batch_wait=0.05, attempts=PATIENT, backoff=QUICK)
def batched(changes: list[AssigneeChange], ctx: BatchContext) -> None:
    numbers = [begin("batched", change, attempt) for change, attempt in zip(changes, ctx.attempts, strict=True)]
    for number in numbers:
        end(number, "done")


@handler(name="slow", queue=SLOW_QUEUE, attempts=PATIENT, backoff=QUICK, timeout=60)
def slow(change: AssigneeChange, ctx: Context) -> None:
    with recorded("slow", change, ctx.attempt):
        time.sleep(trouble(change).get("hang", 0))
