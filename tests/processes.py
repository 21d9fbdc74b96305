"""Real processes for tests: started, waited for by polling to a deadline, read as they run, always taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 20.0  # seconds; long, for machines that have other things to do: only a failing test ever waits it out


def until(condition: Callable[[], object], what: str, deadline: float = DEADLINE, pause: float = 0.01) -> None:
    """Poll ``condition`` each ``pause`` seconds. Fails, naming ``what``, when it does not hold by ``deadline``."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(pause)


class Process:
    """A running process. ``output`` is everything it has written so far, both streams together."""

    def __init__(
        self, args: Sequence[str | Path], env: Mapping[str, str], folder: Path | None = None, *inherits: int
    ) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HANDOFF_", "INBOX_"))}
        self._process = subprocess.Popen(
            [str(arg) for arg in args],
            env={**own, "PYTHONUNBUFFERED": "1", "HANDOFF_DRAIN": "0", **env},  # no proxy is in front
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=inherits,
        )
        self._written: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return b"".join(self._written).decode(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """The exit code, once it has ended and all it wrote has been read."""
        code = self._process.wait(deadline)
        self._reader.join(deadline)
        return code

    def ask_to_end(self) -> None:
        """SIGTERM, if it still runs."""
        if self.running:
            self.signal(signal.SIGTERM)

    def stop(self, deadline: float = DEADLINE) -> int:
        """Ask it to end, and wait for that; its exit code."""
        self.ask_to_end()
        return self.wait(deadline)

    def kill(self) -> None:
        """End it at once, wherever it is. May be called again."""
        if self.running:
            self.signal(signal.SIGKILL)
        self.wait()

    def wait_for_output(self, text: str, deadline: float = DEADLINE) -> None:
        until(lambda: text in self.output or not self.running, f"{text!r} in the output", deadline)
        assert text in self.output, f"it ended without writing {text!r}: {self.output[-2000:]}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while part := stream.read1():  # type: ignore[attr-defined]
                self._written.append(part)


def start(args: Sequence[str | Path], env: Mapping[str, str], folder: Path | None = None, *inherits: int) -> Process:
    """Start ``args`` with ``env`` over our environment, which is cleared of Handoff's settings first.

    ``inherits`` are file descriptors that it gets, by the same numbers.
    """
    return Process(args, env, folder, *inherits)


@contextmanager
def running(
    args: Sequence[str | Path], env: Mapping[str, str], folder: Path | None = None, *inherits: int
) -> Iterator[Process]:
    """The same for a ``with`` statement, after which it is gone for certain."""
    process = start(args, env, folder, *inherits)
    try:
        yield process
    finally:
        process.kill()


def python(module: str, *args: str) -> list[str]:
    """The arguments that run ``module`` with this Python."""
    return [sys.executable, "-m", module, *args]
