"""Handlers that fail in every way, each with personal data in what they raise, as careless ones do."""

from __future__ import annotations

import asyncio
import json

from worker import AssigneeChange, Backoff, Context, DeadLetter, Retry, handler

SOON = Backoff(base=0.02, cap=0.05)


def everything(change: AssigneeChange) -> str:
    return json.dumps(change.event.document)


@handler(attempts=2, backoff=SOON, breaker=None)
def raises(change: AssigneeChange, _ctx: Context) -> None:
    text = everything(change)
    try:
        {}[text]
    except KeyError as error:
        raise ValueError(text) from error


@handler(attempts=2, backoff=SOON, breaker=None)
async def raises_later(change: AssigneeChange, _ctx: Context) -> None:
    await asyncio.sleep(0)
    raise ExceptionGroup(everything(change), [ConnectionError(everything(change))])


@handler(attempts=2, breaker=None)
def wants_again(change: AssigneeChange, ctx: Context) -> None:
    if ctx.attempt == 1:
        raise Retry(everything(change), after=0.01)
    raise DeadLetter(everything(change))


@handler(attempts=1, timeout=0.3, breaker=None)
async def hangs(change: AssigneeChange, _ctx: Context) -> None:
    text = everything(change)
    await asyncio.sleep(60)
    raise AssertionError(text)


@handler(attempts=1, breaker=None, batch=5)
def in_batches(changes: list[AssigneeChange], _ctx: object) -> list[object]:
    return [RuntimeError(everything(change)) for change in changes]


@handler(attempts=1, breaker=None, classify=lambda error: str(error) and DeadLetter(str(error)))
def classified(change: AssigneeChange, _ctx: Context) -> None:
    raise LookupError(everything(change))


@handler(when=lambda change: len(everything(change)) < 1 / 0, attempts=1, breaker=None)
def asks_first(_change: AssigneeChange, _ctx: Context) -> None: ...
