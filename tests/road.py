"""The whole road as real processes: an embedded server, the ingress, Celery workers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis

from tests import access, processes, servers
from tests.processes import Process, until
from worker.settings import Settings
from worker.store import installation, ledger
from worker.store.client import connect
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts

SECRET = "ibt_wh_road_secret"
WORKER = ["worker", "-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
DEADLINE = 90.0  # seconds; only ever used up by a failure


@dataclass
class Road:
    """What a test needs of the running whole. ``client`` decodes answers; ``http`` asks the ingress."""

    url: str
    settings: Settings
    folder: Path
    environment: dict[str, str]
    client: redis.Redis
    http: httpx.Client
    workers: list[Process] = field(default_factory=list)

    @property
    def secret(self) -> bytes:
        return SECRET.encode()

    def now(self) -> int:
        return int(time.time())

    def environment_of(self, role: str) -> dict[str, str]:
        """The environment of a process whose user of the servers is another than that of the command line."""
        names = [name for name in ("HANDOFF_REDIS_URL", "HANDOFF_BROKER_URL") if name in self.environment]
        return self.environment | {name: access.as_user(self.environment[name], role) for name in names}

    def start_worker(self, *options: str) -> Process:
        """A Celery worker; its children go with it, however it ends."""
        command = processes.python("celery", "-A", "worker", *WORKER, *options)
        process = processes.start(command, self.environment_of("worker"), self.folder)
        self.workers.append(process)
        return process

    def handoff(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user would."""
        command = processes.python("worker.ops.cli", *words)
        return subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )

    def books(self) -> list[ledger.PartitionBooks]:
        """Every partition, counted."""
        with connect(self.settings) as client:
            return self._books(client, Scripts(client))

    def _books(self, client: redis.Redis, scripts: Scripts) -> list[ledger.PartitionBooks]:
        handlers = list(installation.known_handlers(client, self.settings))
        partitions = installation.stored_partitions(client, self.settings) or 0
        return [ledger.take(scripts, PartitionKeys(self.settings.prefix, p), handlers) for p in range(partitions)]

    def wait_until_done(self) -> None:
        """Until nothing is unread, held or waiting any more."""
        with connect(self.settings) as client:
            scripts = Scripts(client)

            def done() -> bool:
                books = self._books(client, scripts)
                return bool(books) and not any(
                    b.unread + b.held + sum(h.waiting for h in b.handlers.values()) for b in books
                )

            # Counting takes the processor from the workers who are to end.
            until(done, "the work ends", DEADLINE, pause=0.1)


@contextmanager
def running_road(
    folder: Path, *, handlers: str, workers: int = 1, kind: str = "valkey", state: str | None = None, **settings: str
) -> Iterator[Road]:
    """Start everything on a server of its own; ``settings`` are further ``HANDOFF_`` variables, lower case.

    Each kind of process is a user of its own there, with the rights of deploy/users.acl and no others. The handlers of
    the tests write where those have no right to, by ``TESTS_REDIS_URL``. With ``state``, the tests' URL of servers that
    were started already (topologies.py), that server is for the tests' own use alone, and for the bells of a cluster.
    """
    with ExitStack() as stack:
        redis_url = stack.enter_context(servers.running(kind, locked=True))
        port = servers.free_port()
        environment = {
            "HANDOFF_REDIS_URL": access.as_user(state or redis_url, "operator"),
            "TESTS_CALLS": str(folder / "calls"),
            "TESTS_REDIS_URL": redis_url,
            "HANDOFF_WEBHOOK_SECRET": SECRET,
            "HANDOFF_BIND": f"127.0.0.1:{port}",
            "HANDOFF_HANDLERS": handlers,
            "HANDOFF_LOG_FORMAT": "json",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **{f"HANDOFF_{name.upper()}": value for name, value in settings.items()},
        }
        client = stack.enter_context(redis.Redis.from_url(redis_url, decode_responses=True))
        url = f"http://127.0.0.1:{port}"
        http = stack.enter_context(httpx.Client(base_url=url, timeout=10, verify=False))
        if state is not None and "+cluster" in state:
            environment["HANDOFF_BROKER_URL"] = access.as_user(redis_url, "operator")
        told = Settings(redis_url=state or redis_url, broker_url=environment.get("HANDOFF_BROKER_URL"))
        road = Road(url, told, folder, environment, client, http)
        ingress = stack.enter_context(
            processes.running(processes.python("ingress"), road.environment_of("ingress"), folder)
        )
        until(lambda: _ready(http), "the ingress is ready", DEADLINE)
        try:
            for _ in range(workers):
                road.start_worker()
            yield road
            for process in (*road.workers, ingress):  # all at once: a worker takes two seconds to end
                process.ask_to_end()
            for process in road.workers:
                assert process.wait() in (0, -9), process.output[-2000:]
            assert ingress.wait() == 0, ingress.output[-2000:]
        finally:
            for process in road.workers:
                process.kill()


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
