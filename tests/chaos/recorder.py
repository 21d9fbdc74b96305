"""Appends what a process did to a file of its own: one write a line, so that SIGKILL leaves whole lines.

A line is a JSON array that begins with its kind. The system has the bytes when the write returns, whatever happens to
the process. A last line that was cut all the same is passed over by ``read``.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "CHAOS_RECORDS"  # the variable that says where to

_files: dict[int, int] = {}
_numbers = itertools.count()


def write(kind: str, *words: object) -> None:
    """Append a line, in whatever process and thread this is."""
    pid = os.getpid()
    file = _files.get(pid)
    if file is None:
        # Process ids come again in a long run: the file's name has the present one's birth, too.
        name = f"{pid}-{os.times().elapsed:.2f}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        file = _files[pid] = os.open(Path(os.environ[FOLDER], name), flags, 0o600)
    os.write(file, json.dumps([kind, *words], separators=(",", ":")).encode() + b"\n")


def number() -> int:
    """A number that this process gives once; together with its id it names a call."""
    return next(_numbers)


def read(folder: Path) -> Iterator[tuple[int, list[Any]]]:
    """Every line under ``folder``, with the process that wrote it; each file's in their order."""
    for path in sorted(folder.glob("*.jsonl")):
        pid = int(path.name.partition("-")[0])
        for line in path.read_bytes().split(b"\n"):
            try:
                yield pid, json.loads(line)
            except ValueError:
                continue
