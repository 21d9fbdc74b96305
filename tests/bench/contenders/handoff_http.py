"""Handoff, all of it: the deliveries are posted to its front door, one after another on each of many connections."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests import processes
from tests.bench.arena import Arena
from tests.bench.checker import Verdict, check
from tests.bench.contenders.handoff import count_done, partitions_of, start_worker
from tests.bench.load import CONNECTIONS
from tests.bench.sections.door import Door, open_door, write_signed
from tests.processes import Process

ROOT: Final = Path(__file__).parents[3]


@dataclass
class HandoffHTTP:
    """``handlers`` is the module that ``HANDOFF_HANDLERS`` names, ``handler`` the handler in it."""

    name: str
    title: str
    handlers: str
    handler: str
    note: str = "from the first POST on: signatures, storing, answers, and the rest; the client's CPU is its own, on the two cores"
    _open: ExitStack = field(default_factory=ExitStack, repr=False)
    _door: Door | None = field(default=None, repr=False)

    def why_not(self) -> str | None:
        return None

    def preload(self, arena: Arena) -> None:
        write_signed(_requests(arena), (delivery.body for delivery in arena.workload.deliveries))

    def start(self, arena: Arena) -> list[Process]:
        worker = start_worker(arena.url, self.handlers)
        try:
            arena.wait_for_blocked(worker, "brpop")
            self._door = self._open.enter_context(open_door(arena.url))
        except BaseException:
            worker.kill()
            raise
        return [worker, self._door.process]

    def release(self, arena: Arena) -> None:
        assert self._door is not None
        command = processes.python("tests.bench.load", self._door.address, str(_requests(arena)), str(CONNECTIONS))
        self._open.enter_context(processes.running(command, {}, ROOT))

    def done(self, arena: Arena) -> int:
        return count_done(arena, self.handler)

    def commands_of_done(self, arena: Arena) -> int:
        return len(partitions_of(arena))

    def verdict(self, arena: Arena) -> Verdict | None:
        self._open.close()
        return check(arena.workload.expected, arena.handled())


def _requests(arena: Arena) -> Path:
    return arena.folder / "signed"
