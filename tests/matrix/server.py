"""A state server that survives being killed: real, on a port of its own, with a file that every write goes to first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests import access, processes
from tests.servers import binary, free_port, wait_for_server


@dataclass
class Server:
    """``kind`` is one of ``tests.servers.KINDS``."""

    kind: str
    folder: Path
    port: int = field(default_factory=free_port)
    process: processes.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        users = access.write(self.folder, locked=False)
        options = ["--port", str(self.port), "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        options += ["--dir", str(self.folder), "--aclfile", str(users)]
        self.process = processes.start([binary(self.kind), *options], {})
        wait_for_server(self.port)

    def kill(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGCONT)
            self.process.kill()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.signal(number)

    def command(self, *words: str) -> Any:
        with redis.Redis(port=self.port) as client:
            return client.execute_command(*words)


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Server]:
    server = Server(kind, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
