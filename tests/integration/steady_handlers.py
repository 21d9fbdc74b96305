"""Handlers of every kind that leave a line for each call, in the file that ``TESTS_CALLS`` names: any process may write
to it, and no server has to be there."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from worker import AssigneeChange, Context, handler


def _note(name: str, change: AssigneeChange) -> None:
    line = f"{name} {change.team_id} {change.seq} {time.time():.3f} {'late' if change.late else '-'}\n"
    descriptor = os.open(os.environ["TESTS_CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@handler(name="plain", breaker=None)
def plain(change: AssigneeChange, _ctx: Context) -> None:
    _note("plain", change)


@handler(name="awaited", order_by="prospect", breaker=None)
async def awaited(change: AssigneeChange, _ctx: Context) -> None:
    _note("awaited", change)


@handler(name="rated", rate="500/1s", breaker=None)
async def rated(change: AssigneeChange, _ctx: Context) -> None:
    _note("rated", change)


@handler(name="joined", conflate=True, breaker=None)
def joined(change: AssigneeChange, _ctx: Context) -> None:
    _note("joined", change)


@handler(name="batched", batch=50, breaker=None)
async def batched(changes: Sequence[AssigneeChange], _ctx: Context) -> None:
    for change in changes:
        _note("batched", change)


@handler(name="failing", attempts=1)
def failing(change: AssigneeChange, _ctx: Context) -> None:
    """Fails once for one team, until the file of that name is there."""
    if change.team_id == "broken" and not Path(os.environ["TESTS_CALLS"] + ".mended").exists():
        raise RuntimeError("broken")
    _note("failing", change)
