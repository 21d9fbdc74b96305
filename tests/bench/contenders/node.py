"""Queues of the Node world, in two processes: BullMQ, and GroupMQ, which keeps each group's jobs in order."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests import processes
from tests.bench.arena import Arena
from tests.bench.checker import Verdict, check
from tests.bench.names import LIST
from tests.processes import Process

SCRIPTS: Final = Path(__file__).parents[1] / "node"
PROCESSES: Final = 2
INSTALL_SECONDS: Final = 180


@dataclass
class NodeQueue:
    """``node/{name}.mjs``: ``load`` adds the jobs of a file; ``work`` connects, and runs them at a SIGUSR2."""

    name: str
    title: str
    note: str
    _workers: tuple[Process, ...] = ()

    def why_not(self) -> str | None:
        return _missing()

    def preload(self, arena: Arena) -> None:
        file = arena.folder / "deliveries.jsonl"
        lines = (
            {"team": d.team, "seq": d.seq, "id": d.event_id, "body": d.body.decode()} for d in arena.workload.deliveries
        )
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        loading = processes.start(self._command("load", arena, str(file)), {})
        try:
            assert loading.wait(120) == 0, loading.output[-2000:]
        finally:
            loading.kill()

    def start(self, arena: Arena) -> list[Process]:
        workers = [processes.start(self._command("work", arena, LIST), {}) for _ in range(PROCESSES)]
        try:
            for worker in workers:
                worker.wait_for_output("ready")
        except BaseException:
            for worker in workers:
                worker.kill()
            raise
        self._workers = tuple(workers)
        return workers

    def release(self, arena: Arena) -> None:
        for worker in self._workers:
            worker.signal(signal.SIGUSR2)

    def done(self, arena: Arena) -> int:
        return arena.count_handled()

    def commands_of_done(self, arena: Arena) -> int:
        return 1 + len(arena.workload.expected)

    def verdict(self, arena: Arena) -> Verdict | None:
        return check(arena.workload.expected, arena.handled())

    def _command(self, mode: str, arena: Arena, *more: str) -> list[str]:
        return ["node", str(_cache() / f"{self.name}.mjs"), mode, arena.url, *more]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "handoff-bench"


@cache
def _missing() -> str | None:
    """Why Node's contenders can't run, if so; otherwise their packages are installed in the cache folder."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "no Node"
    folder = _cache()
    folder.mkdir(parents=True, exist_ok=True)
    for file in SCRIPTS.iterdir():
        shutil.copy(file, folder)  # where node finds the packages: it looks beside the script
    try:
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent"],
            cwd=folder, check=True, capture_output=True, timeout=INSTALL_SECONDS,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        return f"npm install failed ({type(error).__name__})"
    return None
