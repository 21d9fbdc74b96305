"""A state server whose machine loses power, as far as that can be had without pulling a plug.

A killed process loses nothing that it has written: the kernel keeps it. A machine that loses power loses what its disk
was not asked to keep. So the server runs under strace, which notes what it writes to its append-only file and when a
fsync of it has returned; at the cut the server is killed, and the file is shortened to what the last fsync that
returned had before it. That is the worst that a disk may do which keeps what it has confirmed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.ingress_kit import FrailServer

_CALL: Final = re.compile(r"^(\d+) +(write|fsync|fdatasync)\(\d+<([^>]*)>.*?(?:\) += (-?\d+).*|<unfinished \.\.\.>)$")
_RESUMED: Final = re.compile(r"^(\d+) +<\.\.\. (?:write|fsync|fdatasync) resumed>.*\) += (-?\d+)")


@cache
def available() -> bool:
    """Whether there is a strace here, and it may trace."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    return tried.returncode == 0


@dataclass
class MainsServer(FrailServer):
    """Start it with an append-only file among its options."""

    pid: int = 0
    before_start: int = 0  # bytes that the disk has had since an earlier start

    @property
    def file(self) -> Path:
        """What the server appends to now; there is one, for nothing here is large enough to be rewritten."""
        (found,) = (self.folder / "appendonlydir").glob("*.incr.aof")
        return found

    @property
    def trace(self) -> Path:
        return self.folder / "trace"

    def start(self) -> None:
        self.before_start = self.file.stat().st_size if (self.folder / "appendonlydir").exists() else 0
        calls = ["-e", "trace=write,fsync,fdatasync", "-e", "signal=none"]
        self.before = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "0", *calls, "-o", str(self.trace)]
        super().start()
        with self.client() as client:
            server: Any = client.info("server")
            self.pid = server["process_id"]

    def kill(self) -> None:
        """End the server; strace ends with it, when it has written everything down."""
        if self.process is not None and self.process.running:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait()

    def cut_power(self) -> int:
        """How many bytes the machine has forgotten."""
        self.kill()
        kept = self.before_start + synced(self.trace.read_text(), self.file)
        lost = self.file.stat().st_size - kept
        os.truncate(self.file, kept)
        return lost


def synced(trace: str, file: Path) -> int:
    """How many bytes of ``file`` were written when the last fsync began that has returned."""
    written = kept = 0
    pending: dict[str, tuple[str, int]] = {}
    for line in trace.splitlines():
        if call := _CALL.match(line):
            thread, name, path, result = call.groups()
            if path != str(file):
                continue
            pending[thread] = (name, written)
        elif resumed := _RESUMED.match(line):
            thread, result = resumed.groups()
        else:
            continue
        if result is None or thread not in pending:
            continue
        name, before = pending.pop(thread)
        if name == "write":
            written += max(0, int(result))
        elif int(result) == 0:
            kept = max(kept, before)
    return kept
