"""A handler that pushes each change to a far side over HTTP, whose address is in a file where the workers run."""

from __future__ import annotations

from pathlib import Path

import httpx

from worker import AssigneeChange, Backoff, Context, handler


@handler(name="push", attempts=3, backoff=Backoff(base=0.05, cap=0.1), timeout=5)
async def push(change: AssigneeChange, ctx: Context) -> None:
    async with httpx.AsyncClient(base_url=Path("far_side").read_text()) as client:  # noqa: ASYNC240 - a few bytes
        answer = await client.post("/", json={"team": change.team_id, "seq": change.seq, "key": ctx.idempotency_key})
        answer.raise_for_status()
