"""Handlers of every kind, each with an option that gives its worker something else to do on the server."""

from __future__ import annotations

from typing import Any

from worker import AssigneeChange, Backoff, BatchContext, Breaker, Context, DeadLetter, Event, Retry, handler

SOON = Backoff(base=0.02, cap=0.05)


@handler(name="plain", backoff=SOON, breaker=None, attempts=2)
def plain(change: AssigneeChange, ctx: Context) -> None:
    if change.team_id == "failing":
        raise DeadLetter("never")
    if change.team_id == "again" and ctx.attempt == 1:
        raise Retry("soon", after=0.01)


@handler(name="blocking", on_exhausted="block", attempts=1, breaker=None)
def blocking(change: AssigneeChange, _ctx: Context) -> None:
    if change.team_id == "failing":
        raise RuntimeError("no")


@handler(name="joined", conflate=True, breaker=None, rate="100/s", backoff=SOON)
async def joined(change: AssigneeChange, _ctx: Context) -> None:
    if change.team_id == "failing":
        raise DeadLetter("never")


@handler(name="shared", team_rate="5/s", rate="1000/s", order_by="prospect")
async def shared(_change: AssigneeChange, _ctx: Context) -> None: ...


@handler(name="batched", batch=10, batch_wait=0.01, order_by=None, on="*")
def batched(events: list[Event], _ctx: BatchContext) -> Any:
    return {event.id: DeadLetter("never") for event in events if event.team_id == "failing"}


_calls: list[int] = []


@handler(name="broken", breaker=Breaker(calls=2, pause=0.2, longest=0.2), backoff=SOON)
def broken(change: AssigneeChange, _ctx: Context) -> None:
    _calls.append(change.seq)
    if len(_calls) <= 3:
        raise ConnectionError("away")
