"""One cell's server, proxy, worker and events."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests import processes
from tests.matrix import server
from tests.matrix.feeder import Feeder
from tests.matrix.server import Server
from tests.processes import Process, until
from tests.proxy import Proxy
from worker.doorbell import DELIVER_QUEUE, SEQUENCE_QUEUE
from worker.settings import Settings
from worker.store import ledger
from worker.store.client import connect
from worker.store.installation import fix_partitions
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts

PARTITIONS: Final = 4
DEADLINE: Final = 90.0  # seconds; only a failure waits it out
READY: Final = " ready."
WORKER: Final = ("worker", "-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat")


class Call(NamedTuple):
    """A line of the handler's: when, by ``time.monotonic``, which all processes of a machine share."""

    what: str
    at: float
    team: str
    seq: int
    event_id: str


@dataclass
class Rig:
    """``environment`` is the worker's; it reaches the server by way of ``proxy``, everybody else directly."""

    server: Server
    proxy: Proxy
    settings: Settings
    folder: Path
    pool: str
    environment: dict[str, str]
    feeder: Feeder
    workers: list[Process] = field(default_factory=list)

    def start_worker(self) -> Process:
        command = processes.python("celery", "-A", "worker", *WORKER, "-P", self.pool, "--loglevel", "info")
        process = processes.start(command, self.environment, self.folder)
        self.workers.append(process)
        return process

    def deafen(self, word: str) -> None:
        """Take the hearing of workers that have loaded ``tests.matrix.deaf``; an empty word gives it to the next."""
        (self.folder / "deafen").write_text(word)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command as on the worker's machine, with its settings, and with its own hearing."""
        return subprocess.run(
            command,
            env=os.environ | self.environment | {"MATRIX_DEAFEN": ""},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[Call]:
        noted = self.folder / "calls"
        lines = noted.read_text().splitlines() if noted.exists() else []
        words = (line.split(" ") for line in lines)
        return [Call(what, float(at), team, int(seq), event_id) for what, at, team, seq, event_id in words]

    def has_begun(self, team: str) -> bool:
        return any(call.team == team for call in self.calls())

    def done_after(self, moment: float) -> float | None:
        """When the first job ended whose event was stored after ``moment``."""
        ended = [call.at for call in self.calls() if call.what == "end" and self.feeder.stored[call.event_id] > moment]
        return min(ended, default=None)

    def wait_until_done(self) -> None:
        """Until every stored event was handled and nothing waits."""

        def done() -> bool:
            ended = {call.event_id for call in self.calls() if call.what == "end"}
            return (
                ended >= set(self.feeder.stored)
                and not self.bells()
                and not any(
                    books.unread + books.held + sum(handler.waiting for handler in books.handlers.values())
                    for books in self.books()
                )
            )

        until(done, "every event is handled and nothing waits", DEADLINE, pause=0.1)

    def bells(self) -> int:
        """How many messages wait for the worker."""
        names = [f"{self.settings.prefix}:broker:{queue}" for queue in (SEQUENCE_QUEUE, DELIVER_QUEUE)]
        return sum(int(self.server.command("LLEN", name)) for name in names)

    def books(self) -> list[ledger.PartitionBooks]:
        with connect(self.settings) as client:
            scripts = Scripts(client)
            every = [PartitionKeys(self.settings.prefix, number) for number in range(PARTITIONS)]
            return [ledger.take(scripts, keys, ["noted"]) for keys in every]

    def check(self) -> None:
        """That every event was done, in its team's order but for repeats, and that the books add up."""
        highest: dict[str, int] = {}
        for call in (call for call in self.calls() if call.what == "begin"):
            before = highest.get(call.team, 0)
            assert call.seq <= before + 1, f"{call.event_id} was begun before the one ahead of it"
            highest[call.team] = max(before, call.seq)
        books = self.books()
        assert not any(book.drift or book.stream_drift or book.handlers["noted"].drift for book in books), books
        assert sum(book.handlers["noted"].done for book in books) == len(self.feeder.stored)
        assert not any(book.dead or book.quarantine for book in books), books


@contextmanager
def running(kind: str, pool: str, folder: Path, **environment: str) -> Iterator[Rig]:
    """A cell with a worker that works; ``environment`` is what else it has in its own."""
    with ExitStack() as stack:
        state = stack.enter_context(server.running(kind, folder))
        proxy = stack.enter_context(Proxy(state.port))
        direct = Settings(redis_url=state.url, partitions=PARTITIONS, webhook_secret=["ibt_wh_matrix_secret"])
        with connect(direct) as client:
            fix_partitions(client, direct)
        variables = {
            "HANDOFF_REDIS_URL": proxy.url(state.url),
            "HANDOFF_HANDLERS": "tests.matrix.handlers",
            "HANDOFF_LOG_FORMAT": "json",
            "MATRIX_CALLS": str(folder / "calls"),
            "MATRIX_DEAFEN": str(folder / "deafen"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **environment,
        }
        rig = Rig(state, proxy, direct, folder, pool, variables, Feeder(direct))
        try:
            rig.start_worker()
            rig.feeder.start()
            until(lambda: rig.done_after(0.0) is not None, "the first event is handled", DEADLINE)
            yield rig
        finally:
            rig.feeder.stop()
            for process in rig.workers:
                process.kill()


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
