"""How many workers get work done, by their own heartbeats (worker/store/heartbeats.py): for those who look, never for
a request. An ingress stores whether or not anybody works, so it is ready without them; it only tells the truth.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final

import redis
import redis.exceptions

from worker.store.heartbeats import Worker, commands, understood

EVERY: Final = 3  # looks at the state server to one at the workers


class State(StrEnum):
    """What a worker of the last minute is to us."""

    LIVE = "live"  # it says that it works
    DEAF = "deaf"  # it says that it gets nothing done, and leaves
    SILENT = "silent"  # it was killed, has stopped or hangs


class Workers:
    """``counts`` is None as long as nobody could say."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._commands = commands(prefix)
        self._turn = 0
        self.counts: dict[State, int] | None = None

    async def look(self) -> None:
        """Count them, at one look of ``EVERY``. Never raises for the server."""
        self._turn += 1
        if self._turn % EVERY != 1:
            return
        try:
            found = await asyncio.to_thread(self._ask)
        except (redis.exceptions.RedisError, OSError):
            self.counts = None
            return
        states = [state_of(worker) for worker in found]
        self.counts = {state: states.count(state) for state in State}

    def _ask(self) -> list[Worker]:
        pipe = self._client.pipeline(transaction=False)
        for command in self._commands:
            pipe.execute_command(*command)
        return understood(pipe.execute())


def state_of(worker: Worker) -> State:
    if worker.silent:
        return State.SILENT
    return State.LIVE if worker.healthy else State.DEAF
