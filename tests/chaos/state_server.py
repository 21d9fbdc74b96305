"""The state server of a run: real, with an append-only file that is written before a command is answered, and made to
be killed, stopped, filled up and demoted."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.processes import until
from tests.servers import binary, free_port

PLENTY: Final = 2 * 1024**3  # bytes
READY: Final = 60.0  # seconds


@dataclass
class StateServer:
    """``kind`` is valkey (the embedded one) or redis (``redis-server``)."""

    folder: Path
    kind: str = "valkey"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._data = _memory() or self.folder
        # Bound and not listening: a primary that can never be reached, for as long as this one is to be a replica.
        self._nobody = socket.socket()
        self._nobody.bind(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on what its append-only file has, and wait until it answers."""
        options = {
            "port": self.port,
            "dir": self._data,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "enable-debug-command": "local",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with (self.folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen([binary(self.kind), *words], stdout=output, stderr=subprocess.STDOUT)
        until(self._answers, "the server answers", READY, 0.02)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:  # one that loads its file says BusyLoadingError, which is one
            assert self.running, (self.folder / "server.log").read_text()[-2000:]
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def demote(self) -> None:
        """Make it a replica of nobody: it keeps its data, and refuses writes (READONLY)."""
        with self.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self._nobody.getsockname()[1])

    def promote(self) -> None:
        with self.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A connection of the harness's own, past all proxies, with whose commands nothing is tried twice."""
        with redis.Redis(port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0)) as client:
            yield client

    def close(self) -> None:
        if self.running:
            self.signal(signal.SIGCONT)
        self.kill()
        self._nobody.close()
        if self._data != self.folder:
            shutil.rmtree(self._data, ignore_errors=True)


def _memory() -> Path | None:
    """A folder in memory for the append-only file, if there is plenty. It outlives the server as a disk's would; and on
    a disk that others write to, waiting for it is most of what a run does."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > PLENTY:
        return Path(tempfile.mkdtemp(prefix="handoff-chaos-", dir=shared))
    return None
