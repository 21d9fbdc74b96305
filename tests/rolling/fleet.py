"""Two ingresses and a few workers that are restarted one after the other while events flow.

A sender is what a provider behind a load balancer is: it goes to an ingress that said at ``/readyz`` that it is ready,
keeps its connections open, and takes whatever happens to a request for what it is. A delivery without its 202 is sent
again, before any later one of its team.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ingress.signature import HEADER, sign
from tests import processes, servers
from tests.processes import Process, until
from tests.road import SECRET, WORKER

LOOK = 0.1  # seconds between a balancer's looks at /readyz
DRAIN = 1.0  # HANDOFF_DRAIN, seconds: ten looks
SLOW = 0.02  # share of the calls that take a while
LONGEST = 2.0  # seconds that they take, from 0.2 on


@dataclass
class Fleet:
    """What runs. ``sent`` are the events that were accepted, by team and in order; ``errors`` what else became of
    requests."""

    redis_url: str
    environment: dict[str, str]
    folder: Path
    ports: list[int]
    ingresses: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    ready: dict[int, bool] = field(default_factory=dict)
    sent: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    stops: list[tuple[str, float, int]] = field(default_factory=list)  # role, seconds until it was gone, exit code
    over: threading.Event = field(default_factory=threading.Event)
    # Set when the senders are done, and no sooner: one that still sends needs to know who is ready.
    unwatched: threading.Event = field(default_factory=threading.Event)

    def start_ingress(self, place: int) -> Process:
        env = {**self.environment, "HANDOFF_BIND": f"127.0.0.1:{self.ports[place]}"}
        return processes.start(processes.python("ingress"), env, self.folder)

    def start_worker(self) -> Process:
        command = processes.python("celery", "-A", "worker", *WORKER, "--loglevel", "INFO")
        return processes.start(command, self.environment, self.folder)

    def restart(self, role: str, place: int, number: int) -> None:
        """Send one process the signal, and when it is gone start another in its place."""
        group = self.ingresses if role == "ingress" else self.workers
        began = time.monotonic()
        group[place].signal(number)
        code = group[place].wait(180)
        self.stops.append((role, time.monotonic() - began, code))
        if role == "ingress":
            group[place] = self.start_ingress(place)
            until(lambda: self.ready[self.ports[place]], "the new ingress is ready", 180)
        else:
            group[place] = self.start_worker()
            group[place].wait_for_output("ready.", 180)

    def watch(self) -> None:
        """The balancer's health check."""
        while not self.unwatched.wait(LOOK):
            for port in self.ports:
                self.ready[port] = _is_ready(port)

    def send(self, teams: list[str], pause: float, seed: int) -> None:
        """One sender: events of its own teams, at its own pace, until it is over."""
        dice = random.Random(seed)
        clients = {
            port: httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, verify=False) for port in self.ports
        }
        due = time.monotonic()
        with suppress(StopIteration):
            while not self.over.is_set():
                team = dice.choice(teams)
                self._deliver(clients, team, dice)
                due += pause
                time.sleep(max(0.0, due - time.monotonic()))
        for client in clients.values():
            client.close()

    def _deliver(self, clients: dict[int, httpx.Client], team: str, dice: random.Random) -> None:
        seq = len(self.sent[team]) + 1
        seconds = dice.uniform(0.2, LONGEST) if dice.random() < SLOW else 0.0
        event = {
            "id": f"{team}-{seq}",
            "seq": seq,
            "teamId": team,
            "type": "rolling.event",
            "data": {"seconds": seconds},
        }
        body = json.dumps(event).encode()
        while True:
            ready = [port for port in self.ports if self.ready[port]]
            if not ready:
                self.errors.append("no ingress is ready")
                time.sleep(LOOK)
                continue
            headers = {HEADER: sign(body, SECRET.encode(), int(time.time()))}
            try:
                answer = clients[dice.choice(ready)].post("/webhooks/inbox", content=body, headers=headers)
            except httpx.HTTPError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                time.sleep(LOOK)
                continue
            if answer.status_code == httpx.codes.ACCEPTED:
                self.sent[team].append(event["id"])  # type: ignore[arg-type]
                return
            self.errors.append(str(answer.status_code))
            time.sleep(LOOK)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", verify=False, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextmanager
def fleet(folder: Path, *, workers: int = 2) -> Iterator[Fleet]:
    """Two ingresses and so many workers of two processes, up and ready."""
    with servers.running("valkey") as redis_url:
        environment = {
            "HANDOFF_REDIS_URL": redis_url,
            "HANDOFF_WEBHOOK_SECRET": SECRET,
            "HANDOFF_HANDLERS": "tests.rolling.handlers",
            "HANDOFF_LOG_FORMAT": "json",
            "HANDOFF_DRAIN": f"{DRAIN:g}",
            "HANDOFF_PARTITIONS": "8",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        made = Fleet(redis_url, environment, folder, [servers.free_port(), servers.free_port()])
        try:
            made.ingresses += [made.start_ingress(place) for place in range(2)]
            made.workers += [made.start_worker() for _ in range(workers)]
            for port in made.ports:
                until(lambda port=port: _is_ready(port), "an ingress is ready", 180)  # type: ignore[misc]
                made.ready[port] = True
            for worker in made.workers:
                worker.wait_for_output("ready.", 180)
            yield made
        finally:
            made.over.set()
            for process in made.ingresses + made.workers:
                process.kill()
