"""What tests of the ingress share: signed deliveries, a real ingress, a state server that can be made to fail."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis

from ingress.signature import HEADER, sign
from tests import access, processes
from tests.servers import binary, free_port, wait_for_server
from worker.store.keys import PartitionKeys

SECRET = "ibt_wh_test_secret"
PARTITIONS = 4
PLAIN = "/webhooks/inbox"


def event(team: str | None = "team1", seq: int = 1, **more: Any) -> bytes:
    """A body as the provider sends it; without ``team`` as its second version does."""
    whose = {} if team is None else {"teamId": team}
    return json.dumps({"id": f"evt{seq}", "seq": seq, "type": "thread.typing", **whose, **more}).encode()


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    return {HEADER: sign(body, secret.encode(), int(time.time() if at is None else at))}


def inboxes(client: redis.Redis, prefix: str, partitions: int = PARTITIONS) -> list[dict[bytes, bytes]]:
    """The fields of every delivery stored under ``prefix``."""
    entries: list[Any] = []
    for partition in range(partitions):
        entries += client.xrange(PartitionKeys(prefix, partition).inbox) or []
    return [fields for _, fields in entries]


@dataclass
class Ingress:
    """A ``python -m ingress`` that listens."""

    process: processes.Process
    http: httpx.Client

    def post(self, body: bytes, path: str = PLAIN, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.http.post(path, content=body, headers=signed(body) if headers is None else headers)

    def code(self, body: bytes, path: str = PLAIN, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and error code of the answer."""
        answer = self.post(body, path, headers)
        return answer.status_code, answer.json()["error"]["code"]

    def metric(self, line: str) -> float:
        """The value of the metric whose name and labels are ``line``."""
        for found in self.http.get("/metrics").text.splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0

    def ready(self) -> bool:
        return self.http.get("/readyz").status_code == 200


@contextmanager
def ingress(
    redis_url: str, prefix: str, *, wait: str = "/readyz", before: Sequence[str] = (), **settings: str
) -> Iterator[Ingress]:
    """A running ingress. ``wait`` is the page that must answer 200 first; settings are named without ``HANDOFF_``;
    ``before`` is what it is started by, if anything."""
    port = free_port()
    env = {
        "HANDOFF_REDIS_URL": access.as_user(redis_url, "ingress"),
        "HANDOFF_PREFIX": prefix,
        "HANDOFF_PARTITIONS": str(PARTITIONS),
        "HANDOFF_WEBHOOK_SECRET": SECRET,
        "HANDOFF_BIND": f"127.0.0.1:{port}",
        **{f"HANDOFF_{name}": value for name, value in settings.items()},
    }
    with (
        processes.running([*before, *processes.python("ingress")], env) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, verify=False) as http,
    ):

        def answers() -> bool:
            assert process.running, process.output
            try:
                return http.get(wait).status_code == 200
            except httpx.TransportError:
                return False

        processes.until(answers, f"{wait} answers 200", deadline=60)
        yield Ingress(process, http)


@dataclass
class FrailServer:
    """A state server that can be killed, brought back and stopped in its tracks. It keeps nothing, unless ``options``
    or its ``configuration`` say so; ``before`` is a command that runs it."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: processes.Process | None = None
    kind: str = "valkey"
    options: Sequence[str] = ()
    before: Sequence[str] = ()
    configuration: Path | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--dir", str(self.folder), "--aclfile", str(access.write(self.folder))]
        nothing_kept = ["--save", "", "--appendonly", "no"]
        kept = nothing_kept if self.configuration is None else [str(self.configuration)]
        command = [*self.before, binary(self.kind), *kept, *options, *self.options]
        self.process = processes.start(command, {})
        wait_for_server(self.port)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def pause(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        with redis.Redis(port=self.port) as client:
            yield client


@contextmanager
def frail_server(folder: Path, *options: str, kind: str = "valkey") -> Iterator[FrailServer]:
    server = FrailServer(folder, kind=kind, options=options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
