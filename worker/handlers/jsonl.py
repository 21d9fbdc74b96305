"""Appends each change to a file, or to standard output, as one line of JSON. On with ``HANDOFF_JSONL_PATH``.

A line is ``AssigneeChange.as_dict()``; the raw event, which holds people's data, is in it only with
``HANDOFF_JSONL_INCLUDE=event``. All in ASCII, so that no reader stumbles over a character.

**What the file is like.** Any number of processes append to it. A team's changes are in it in order. A line can be
there twice, after a crash (``event_id`` tells), and is never there in part: whoever writes holds a lock, takes back
what the system took only a part of, and first ends a line that a crash left without its end. A file that was moved away
(logrotate) is made anew at the next write; one that was cut to nothing (copytruncate) is gone on with.

**Failure policy.** A missing folder, a missing permission, a full disk: nothing of it is a change's fault, so it is an
outage. All wait, none becomes a dead letter for a day, and ``handoff status`` says why.

**Limits.** Up to 500 changes a write. ``HANDOFF_JSONL_FSYNC=1``: a change is done when its line is on the disk, which
costs a sync for each write.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from worker import AssigneeChange, BatchContext, handler
from worker.handler_settings import HandlerSettings

STDOUT: Final = "-"
NEWLINE: Final = b"\n"
MODE: Final = 0o640

_turn = threading.Lock()  # the system's lock keeps out other processes, and not this one's threads


class Options(HandlerSettings, env_prefix="HANDOFF_JSONL_"):
    path: str = Field(description="File to append a line of JSON to for each change; `-`: standard output.")
    include: Literal["change", "event"] = Field(
        "change", description="`change`: ids and the change. `event`: the raw event too, with names, notes and bio."
    )
    fsync: bool = Field(False, description="Wait for the disk before a change counts as done.")


options = Options.load()


class Unwritable(ConnectionError):
    """The line can't be written for now. To the default policy what can't be reached is an outage."""


def preview(change: AssigneeChange) -> object:
    return line_of(change, "change")


@handler(name="jsonl", batch=500, batch_wait=0, preview=preview)
def append_lines(changes: Sequence[AssigneeChange], ctx: BatchContext) -> None:  # noqa: ARG001 - what a handler gets
    """All of them, or none. Raises ``Unwritable``."""
    append(options.path, b"".join(encoded(line_of(change, options.include)) for change in changes), fsync=options.fsync)


def line_of(change: AssigneeChange, include: str) -> dict[str, object]:
    return {name: value for name, value in change.as_dict().items() if include == "event" or name != "event"}


def encoded(line: object) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + NEWLINE


def append(path: str, lines: bytes, *, fsync: bool = False) -> None:
    """``lines`` to the end of the file, whole or not at all. Raises ``Unwritable`` saying why in words."""
    try:
        with _turn, _locked(path) as file:
            _write(file, lines)
            if fsync and path != STDOUT:
                os.fsync(file)
                _sync_name(Path(path))
    except OSError as error:
        raise Unwritable(f"HANDOFF_JSONL_PATH: can't be written to: {error.strerror or type(error).__name__}") from None


@contextmanager
def _locked(path: str) -> Iterator[int]:
    """A descriptor of what ``path`` names now, which nobody else writes to meanwhile."""
    there = False
    while not there:
        file = os.dup(1) if path == STDOUT else os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, MODE)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX)
            there = path == STDOUT or _is_there(path, file)  # not moved away while its turn was awaited
            if there:
                yield file
        finally:
            os.close(file)  # gives the lock back


def _is_there(path: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))  # noqa: PTH116 - beside fstat
    except FileNotFoundError:
        return False


def _write(file: int, lines: bytes) -> None:
    """Raises what the system says, after taking back what it took of ``lines``."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        for line in lines.splitlines(keepends=True):  # a pipe takes up to 4 KiB whole, or nothing
            _put(file, line)
        return
    end = found.st_size
    try:
        _put(file, lines if not end or _last(file, end) == NEWLINE else NEWLINE + lines)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(file, end)
            os.lseek(file, end, os.SEEK_SET)  # standard output may have been opened without O_APPEND
        raise


def _put(file: int, text: bytes) -> None:
    left = memoryview(text)
    while left:
        try:
            left = left[os.write(file, left) :]
        except BlockingIOError:  # standard output may be somebody's pipe that does not block, and is full
            select.select([], [file], [])


def _last(file: int, end: int) -> bytes:
    try:
        return os.pread(file, 1, end - 1)
    except OSError:  # standard output may be a file that is open for writing only
        return NEWLINE


def _sync_name(path: Path) -> None:
    """A new file's name is in its folder, which is synced by itself."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
