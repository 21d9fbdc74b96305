"""Processes that are kept running: what ends is started again, as systemd or Kubernetes would, and what they write is
in a file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.history import Interval

RESTART_AFTER: Final = 0.3  # seconds
LOOK_EVERY: Final = 0.05


@dataclass
class Kept:
    """One of them. ``command`` and ``env`` may be changed: the next start is by them. ``ended``: called with the exit
    code and the time of each end that nobody had asked for. ``marker``: what it writes once it is ready for work."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    ended: Callable[[str, int, float], None] = lambda name, code, at: None
    marker: str = ""
    wanted: bool = False
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _expected: bool = False
    _free_at: float = 0.0
    _away: list[Interval] = field(default_factory=list)
    _since: float | None = None  # when it went away; None while it is ready
    _log_at: int = 0  # where the log of the present start begins
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def pids(self) -> tuple[int, ...]:
        """It and its children."""
        pid = self.pid
        return () if pid is None else (pid, *children(pid))

    def start(self) -> None:
        with self._lock:
            self.wanted = True
            self._start()

    def look(self) -> None:
        """Start it again if it has ended."""
        with self._lock:
            now = time.monotonic()
            if not self.wanted or self._process is None:
                return
            if self._process.poll() is None:
                if self._since is not None and self._is_ready():
                    self._away.append((self._since, now))
                    self._since = None
                return
            if self._since is None:
                self._since = now - LOOK_EVERY
            if not self._free_at:
                self._free_at = now + RESTART_AFTER
                if not self._expected:
                    self.ended(self.name, self._process.returncode, now)
            elif now >= self._free_at:
                self._start()

    @property
    def ready(self) -> bool:
        return self.starts > 0 and self._since is None

    def away(self, until: float) -> list[Interval]:
        """When it was not ready for work, in order."""
        with self._lock:
            return [*self._away, *([] if self._since is None else [(self._since, until)])]

    def _is_ready(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_at)
            return self.marker.encode() in log.read()

    def signal(self, number: int) -> tuple[int, ...]:
        """Send it a signal; the processes that it is about. One that kills is expected to."""
        with self._lock:
            found = self.pids
            if found and number in (signal.SIGKILL, signal.SIGTERM):
                self._expected = True
            if found:
                os.kill(found[0], number)
            return found

    def stop(self, grace: float) -> int | None:
        """Ask it to end, and see to it that it does; its exit code, None if it had to be killed."""
        with self._lock:
            self.wanted = False
            found = self.pids
            if self._process is None:
                return 0
            for pid in found:
                send(pid, signal.SIGCONT)
            if found:
                send(found[0], signal.SIGTERM)
        try:
            return self._process.wait(grace)
        except subprocess.TimeoutExpired:
            for pid in (*self.pids, *found):
                send(pid, signal.SIGKILL)
            self._process.wait()
            return None

    def _start(self) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HANDOFF_", "INBOX_"))}
        self._since = time.monotonic() if self._since is None else self._since
        with self.log.open("ab") as output:
            self._log_at = output.tell()
            self._process = subprocess.Popen(
                list(self.command),
                env={**own, "PYTHONUNBUFFERED": "1", **self.env},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.starts += 1
        self._free_at = 0.0
        self._expected = False


class Supervisor:
    """Looks after all of them, in a thread, until ``close``."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="supervisor")
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            for kept in self.kept:
                kept.look()


def send(pid: int, number: int) -> bool:
    """Signal a process that may be gone; whether it was there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def children(pid: int) -> tuple[int, ...]:
    """The children of a process, oldest first."""
    found = []
    if Path("/proc/self/stat").exists():
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    # The name is in brackets and may hold anything; the parent is the second word after it.
                    if int((path / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                        found.append(int(path.name))
    else:
        listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
        found = [int(word) for word in listed.split()]
    return tuple(sorted(found))


def all_away(absences: Sequence[Sequence[Interval]]) -> list[Interval]:
    """When all were away at once; each one's absences are in order. Of nobody: never."""
    common = list(absences[0]) if absences else []
    for own in absences[1:]:
        both = [(max(a, c), min(b, d)) for a, b in common for c, d in own]
        common = sorted((begin, end) for begin, end in both if begin < end)
    return common
