"""Everything that a run breaks: the server, an ingress or two, prefork workers, and a proxy in front of the server for
each of them, so that the network of one process can be broken alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.chaos import recorder
from tests.chaos.history import Fault, Interval
from tests.chaos.kept import Kept, Supervisor, all_away
from tests.chaos.state_server import StateServer
from tests.chaos.terms import SLOW_QUEUE, TERMS
from tests.processes import until
from tests.proxy import Proxy
from tests.servers import free_port
from worker.settings import Settings

ROOT: Final = Path(__file__).parents[2]
SECRET: Final = "ibt_wh_chaos_secret"
PARTITIONS: Final = 4
READY: Final = 180.0  # seconds for everything to start; only a failure uses them up
GRACE: Final = 60.0  # seconds for a process to end when it is asked to
READY_MARK: Final = "@chaos ready."  # in a worker's log
LISTENING: Final = '"listening"'  # in an ingress's
QUEUES: Final = "handoff.sequence,handoff.deliver"


@dataclass(frozen=True)
class Setup:
    """What there is. ``slow_workers`` read the queue of the slow handler and nothing else. ``sabotage`` is taken out of
    every process."""

    server: str = "valkey"
    ingresses: int = 2
    workers: int = 2
    slow_workers: int = 1
    processes: int = 2
    partitions: int = PARTITIONS
    sabotage: str = ""
    handlers: str = "tests.chaos.handlers"
    settings: Sequence[tuple[str, str]] = (("GAP_WAIT_MAX", "2s"),)


@dataclass
class Cluster:
    """A running one. ``exits`` are ends of processes that nobody had asked for."""

    setup: Setup
    folder: Path
    server: StateServer
    supervisor: Supervisor
    ingresses: list[Kept] = field(default_factory=list)
    workers: list[Kept] = field(default_factory=list)
    proxies: dict[str, Proxy] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)
    exits: list[Fault] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """For looking at the server itself, past the proxies."""
        own: dict[str, Any] = {name.lower(): value for name, value in self.setup.settings}
        return Settings(redis_url=self.server.url, webhook_secret=[SECRET], partitions=self.setup.partitions, **own)

    @property
    def records(self) -> Path:
        return self.folder / "records"

    def worker_command(self, number: int, *, clock: float = 0.0) -> list[str]:
        """How worker ``number`` is started, with a clock that is so many seconds fast."""
        slow = number >= self.setup.workers
        queues = SLOW_QUEUE if slow else QUEUES
        words = ["celery", "-A", "worker", "worker", "-c", str(self.setup.processes), "-Q", queues]
        words += ["-n", f"{number}@chaos", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        return self._python(words, clock=clock)

    def environment(self, name: str, *, code: Path = ROOT) -> dict[str, str]:
        """Of a process whose code is under ``code``, the tests' always under ROOT."""
        path = str(ROOT) if code == ROOT else f"{code}:{ROOT}"
        return {
            "HANDOFF_REDIS_URL": self.proxies[name].url(self.server.url),
            "HANDOFF_WEBHOOK_SECRET": SECRET,
            "HANDOFF_PARTITIONS": str(self.setup.partitions),
            "HANDOFF_HANDLERS": self.setup.handlers,
            "HANDOFF_LOG_FORMAT": "json",
            recorder.FOLDER: str(self.records),
            "PYTHONPATH": path,
            **{f"HANDOFF_{setting}": value for setting, value in self.setup.settings},
        }

    def _python(self, words: Sequence[str], *, clock: float = 0.0) -> list[str]:
        altered = [*(("--clock", str(clock)) if clock else ())]
        altered += ("--sabotage", self.setup.sabotage) if self.setup.sabotage else ()
        if not altered:
            return [sys.executable, "-m", *words]
        return [sys.executable, "-m", "tests.chaos.altered", *altered, *words]

    def add(self, name: str, command: Sequence[str], env: dict[str, str]) -> Kept:
        kept = Kept(name, command, env, self.folder, self._ended, LISTENING if "ingress" in command else READY_MARK)
        kept.start()
        self.supervisor.kept.append(kept)
        return kept

    def start(self, stack: ExitStack) -> None:
        names = [f"ingress-{n}" for n in range(self.setup.ingresses)]
        names += [f"worker-{n}" for n in range(self.setup.workers + self.setup.slow_workers)]
        for name in names:
            self.proxies[name] = stack.enter_context(Proxy(self.server.port))
        for number in range(self.setup.ingresses):
            name, port = f"ingress-{number}", free_port()
            env = {**self.environment(name), "HANDOFF_BIND": f"127.0.0.1:{port}"}
            self.urls.append(f"http://127.0.0.1:{port}")
            self.ingresses.append(self.add(name, self._python(["ingress"]), env))
        for number in range(self.setup.workers + self.setup.slow_workers):
            name = f"worker-{number}"
            self.workers.append(self.add(name, self.worker_command(number), self.environment(name)))

    def wait_until_ready(self) -> None:
        with httpx.Client(timeout=2) as client:
            until(lambda: all(_ready(client, url) for url in self.urls), "the ingresses are ready", READY, 0.05)
        until(lambda: all(kept.ready for kept in self.workers), "the workers are ready", READY, 0.05)

    def nobody(self, until: float) -> dict[str, list[Interval]]:
        """By handler, when there was no worker for its queue."""
        count = self.setup.workers
        groups = {terms.name: self.workers[count:] if terms.name == "slow" else self.workers[:count] for terms in TERMS}
        return {name: all_away([kept.away(until) for kept in group]) for name, group in groups.items()}

    def end(self) -> list[str]:
        """Stop everything politely; what did not go well, in words."""
        wrong = []
        for kept in [*self.ingresses, *self.workers]:
            kept.wanted = False
        for kept in [*self.ingresses, *self.workers]:
            code = kept.stop(GRACE)
            if code != 0:
                wrong.append(f"{kept.name} ended with {code}")
        return wrong

    def _ended(self, name: str, code: int, at: float) -> None:
        self.exits.append(Fault(f"exit {code}", at, at, name, crash=False))


@contextmanager
def running(setup: Setup, folder: Path) -> Iterator[Cluster]:
    """All of it, ready for work; gone afterwards, however it ends."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server = StateServer(folder / "server", setup.server)
        stack.callback(server.close)
        server.start()
        supervisor = Supervisor()
        cluster = Cluster(setup, folder, server, supervisor)
        try:
            cluster.start(stack)
            cluster.wait_until_ready()
            yield cluster
        finally:
            supervisor.close()
            for kept in supervisor.kept:
                kept.stop(0.0 if kept.wanted else GRACE)


def _ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def now() -> float:
    return time.monotonic()
