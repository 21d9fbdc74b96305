"""A handler that waits 50 ms, as one that calls a far side does: a coroutine, or a plain function."""

from __future__ import annotations

import asyncio
import os
import time

from worker import Context, Event, handler

SECONDS = 0.05

if os.environ.get("WAITING") == "plain":

    @handler(name="waits", on="*")
    def waits(event: Event, ctx: Context) -> None:
        time.sleep(SECONDS)

else:

    @handler(name="waits", on="*")
    async def waits(event: Event, ctx: Context) -> None:
        await asyncio.sleep(SECONDS)
