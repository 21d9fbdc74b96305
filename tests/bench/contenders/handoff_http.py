"""Handoff, all of it: the deliveries are posted to its front door, one after another on each of many connections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import processes
from tests.bench.arena import Arena
from tests.bench.checker import Verdict, check
from tests.bench.contenders.handoff import count_done, count_late, partitions_of, start_worker
from tests.bench.load import CONNECTIONS, ready_for
from tests.bench.sections.door import open_door, write_signed
from tests.processes import Process, until

ROOT: Final = Path(__file__).parents[3]


@dataclass
class HandoffHTTP:
    """``handlers`` is the module that ``HANDOFF_HANDLERS`` names, ``handler`` the handler in it."""

    name: str
    title: str
    handlers: str
    handler: str
    note: str = "from the first POST on: signatures, storing, answers and the rest; the client is on the two cores, too"

    def why_not(self) -> str | None:
        return None

    def preload(self, arena: Arena) -> None:
        write_signed(_requests(arena), (delivery.body for delivery in arena.workload.deliveries))

    def start(self, arena: Arena) -> list[Process]:
        worker = start_worker(arena.url, self.handlers)
        try:
            arena.wait_for_blocked(worker, "brpop")
            door = arena.closing.enter_context(open_door(arena.url))
            command = ("tests.bench.load", door.address, str(_requests(arena)), str(CONNECTIONS), str(_go(arena)))
            arena.closing.enter_context(processes.running(processes.python(*command), {}, ROOT))
            until(ready_for(_go(arena)).exists, "the sender is connected")
        except BaseException:
            worker.kill()
            raise
        return [worker, door.process]

    def release(self, arena: Arena) -> None:
        _go(arena).touch()

    def done(self, arena: Arena) -> int:
        return count_done(arena, self.handler)

    def commands_of_done(self, arena: Arena) -> int:
        return len(partitions_of(arena))

    def verdict(self, arena: Arena) -> Verdict | None:
        return check(arena.workload.expected, arena.handled(), marked=count_late(arena))


def _requests(arena: Arena) -> Path:
    return arena.folder / "signed"


def _go(arena: Arena) -> Path:
    return arena.folder / "go"
