"""What is looked at every few seconds, as data; and the file of JSON lines that it is kept in.

Times are seconds from the start of the load, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

SERVER: Final = "server"


class ProcessSample(msgspec.Struct, frozen=True):
    """``born`` tells it from others that had its ``pid``. ``files``: descriptors, None where it can't be known."""

    kind: str
    name: str
    pid: int
    born: float
    rss: int
    files: int | None = None
    threads: int | None = None


class ServerSample(msgspec.Struct, frozen=True):
    """``used`` is what the server says that it uses for data and all, ``file`` the size of its append-only file."""

    used: int
    clients: int
    file: int = 0


class FamilySample(msgspec.Struct, frozen=True):
    """All keys of one row of ``worker/store/keys.py``, and what they hold together."""

    keys: int
    entries: int
    size: int


class Sample(msgspec.Struct, frozen=True):
    """``drift``: what the ledger and the structures differ by, in words, empty if they agree. ``released``: events so
    far. ``server``, ``families`` and ``drift`` are None while the server can't be asked."""

    at: float
    processes: Sequence[ProcessSample] = ()
    server: ServerSample | None = None
    families: Mapping[str, FamilySample] | None = None
    drift: Sequence[str] | None = None
    released: int | None = None


class SampleFile:
    """Appends samples, each at once: a run that is broken off leaves its samples."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def append(self, sample: Sample) -> None:
        self._file.write(msgspec.json.encode(sample) + b"\n")

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[Sample]:
    with path.open("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=Sample)
