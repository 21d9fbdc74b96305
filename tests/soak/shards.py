"""What happened in a run, on disk, in one folder for each partition; and the checks, partition by partition.

A partition is a whole of its own: all messages, posts, calls, leases and commits of its teams, and its own books in the
server. No invariant spans two. So the checks of the chaos harness hold for it as they are, and of an hour's run only
one partition's part is ever in memory.

    NN/messages.jsonl   what was sent, without the bodies of events
    NN/posts.jsonl      how each attempt was answered
    NN/records/         what the workers recorded: lines of tests/chaos/recorder.py, sorted by partition after the run
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from tests.chaos import books
from tests.chaos.history import History, Message, Post
from worker.core.envelope import team_of
from worker.store.keys import partition_of

BUFFER: Final = 1 << 16  # bytes
_PARTITION: Final = re.compile(r"\{p(\d+)\}")


def partition(message: Message, partitions: int) -> int:
    """Where the ingress puts a delivery: by its team, or by its bytes where no team can be read."""
    if message.kind == "event":
        return partition_of(message.team, partitions)
    team = team_of(message.body, None)
    return zlib.crc32(message.body) % partitions if team is None else partition_of(team, partitions)


class Shards:
    """Writes messages and posts as they come, from any thread that is the only one to write either."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self.folder = folder
        self.partitions = partitions
        self._places: dict[str, int] = {}  # of messages that are no events: the team of an event tells its place
        self._messages = [self._open(number, "messages.jsonl") for number in range(partitions)]
        self._posts = [self._open(number, "posts.jsonl") for number in range(partitions)]

    def message(self, message: Message) -> None:
        place = partition(message, self.partitions)
        if message.kind != "event":
            self._places[message.key] = place
        words = (
            *(message.key, message.kind, message.team, message.seq, message.type, message.at_ms, message.prospect),
            *(message.names_owner, message.assignee, base64.b64encode(message.body).decode()),
        )
        self._messages[place].write(_line(words))

    def post(self, post: Post) -> None:
        place = self._places.get(post.key)
        if place is None:  # the key of an event is its team and a number (tests/chaos/workload.py)
            place = partition_of(post.key.rpartition("-e")[0], self.partitions)
        self._posts[place].write(_line((post.key, post.sent, post.answered, post.status, post.ingress)))

    def close(self) -> None:
        for file in (*self._messages, *self._posts):
            file.close()

    def _open(self, number: int, name: str) -> BinaryIO:
        path = self.folder / f"{number:02d}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb", buffering=BUFFER)


def sort_records(records: Path, folder: Path, partitions: int) -> None:
    """Put each line that the workers wrote with its partition, and take the files away that they wrote."""
    for number in range(partitions):
        (folder / f"{number:02d}" / "records").mkdir(parents=True, exist_ok=True)
    for path in sorted(records.glob("*.jsonl")):
        targets = [(folder / f"{number:02d}" / "records" / path.name).open("wb") for number in range(partitions)]
        try:
            with path.open("rb") as lines:
                for places, line in _placed(lines, partitions):
                    for place in places:
                        targets[place].write(line)
        finally:
            for target in targets:
                target.close()
        path.unlink()


def _placed(lines: Iterable[bytes], partitions: int) -> Iterator[tuple[Sequence[int], bytes]]:
    """Each line of one process's, with the partitions that it is about."""
    open_calls: dict[int, int] = {}
    for line in lines:
        try:
            kind, *words = json.loads(line)
        except ValueError:
            continue  # the last one, cut
        if kind == "start":
            open_calls[words[0]] = place = partition_of(words[4], partitions)
            yield (place,), line
        elif kind == "end":
            yield (open_calls.pop(words[0]),), line
        elif kind in {"taken", "committed"}:  # of one partition's store, however many lanes
            found = _PARTITION.search(line.decode())
            if found is not None:
                yield (int(found[1]),), line
        else:
            yield range(partitions), line


def messages(folder: Path) -> list[Message]:
    return [Message(*words[:-1], body=base64.b64decode(words[-1])) for words in _lines(folder / "messages.jsonl")]


def posts(folder: Path) -> list[Post]:
    return [Post(*words) for words in _lines(folder / "posts.jsonl")]


def history(folder: Path, whole: History) -> History:
    """The history of the partition in ``folder``; ``whole`` has what is common to all, and the partition's books."""
    calls, taken, committed, exits = books.records(folder / "records")
    return replace(
        whole,
        messages=messages(folder),
        posts=posts(folder),
        calls=calls,
        taken=taken,
        committed=committed,
        faults=[*whole.faults, *exits],
    )


def _line(words: Sequence[Any]) -> bytes:
    return json.dumps(words, separators=(",", ":")).encode() + b"\n"


def _lines(path: Path) -> Iterator[list[Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
