"""What the system says of a process: by /proc, or by ps where there is none."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Facts(NamedTuple):
    """``born`` is when it was started, in the system's own count. ``rss``: bytes of memory that are its at present."""

    born: float
    rss: int
    files: int | None = None
    threads: int | None = None


def facts(pid: int) -> Facts | None:
    """None for one that is gone."""
    with suppress(OSError, ValueError, IndexError):
        return _by_proc(pid) if (PROC / "self" / "stat").exists() else _by_ps(pid)
    return None


def _by_proc(pid: int) -> Facts | None:
    # The name is in brackets and may hold anything. What follows it is numbered from 3 in proc(5).
    words = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    rss = int(words[21]) * _PAGE
    if words[0] in "ZX" or not rss:
        return None
    files = len(os.listdir(PROC / str(pid) / "fd"))  # noqa: PTH208 - no path of each is wanted
    return Facts(float(words[19]), rss, files, int(words[17]))


def _by_ps(pid: int) -> Facts | None:
    command = ["ps", "-o", "rss=,lstart=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split(None, 1)
    return Facts(float(abs(hash(said[1]))), int(said[0]) * 1024) if len(said) == 2 else None
