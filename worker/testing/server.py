"""The state server of tests: the embedded Valkey, with nothing kept on disk, for as long as the tests run."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import StoreUnavailable
from worker.ops.embedded import HOST, command, free_port, last_words
from worker.ops.supervisor import tied_to_parent

PATIENCE: Final = 20.0  # seconds for the server to come up


@contextmanager
def embedded() -> Iterator[str]:
    """A fresh, empty server; yields its URL. Raises ``ConfigurationError`` where there is no binary for the platform,
    and ``StoreUnavailable`` when it does not come up."""
    with tempfile.TemporaryDirectory(prefix="handoff-test-") as name:
        folder, port = Path(name), free_port()
        process = subprocess.Popen(  # noqa: S603 - our own binary
            [*command(folder, port), "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for pytest, whose fixtures end it
            preexec_fn=tied_to_parent(),  # noqa: PLW1509 - one call of prctl
        )
        try:
            _wait(process, port, folder)
            yield f"redis://{HOST}:{port}/0"
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    with redis.Redis(HOST, port, retry=Retry(NoBackoff(), 0), socket_timeout=1) as client:
        while process.poll() is None and time.monotonic() < end:
            try:
                client.ping()
            except redis.exceptions.RedisError:
                time.sleep(0.01)
            else:
                return
    raise StoreUnavailable(f"the embedded Valkey did not come up; its last words: {last_words(folder) or 'none'}")
