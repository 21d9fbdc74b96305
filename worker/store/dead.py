"""Reads dead letters: jobs that were given up, kept until a person acts (written by settle.lua).

A letter keeps its event's body in the inbox, as a job does; the two are put together here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import redis

from worker.core import jobs
from worker.core.envelope import Envelope, Unreadable, read
from worker.core.jobs import Job
from worker.core.lanes import team_of
from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys, partition_of
from worker.store.pages import Fields, Page, Window, as_mapping, merged, milliseconds

TOGETHER: Final = 16  # bodies read at once: each may have a megabyte


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter without its event's body, of which there is only the ``size`` in bytes; 0: the body was lost.

    ``at`` is when the job was given up, ``arrived`` when its event came in, both server ms. ``error`` is the class of
    the last error; its ``text`` may hold personal data. ``event_id`` and ``type`` are None without a body.
    """

    partition: int
    entry: str
    at: int
    handler: str
    lane: str
    team: str
    event_id: str | None
    type: str | None
    job: Job
    attempts: int
    error: str
    text: str = field(repr=False)
    size: int

    @property
    def seq(self) -> int:
        return self.job.seq

    @property
    def late(self) -> bool:
        return self.job.late

    @property
    def arrived(self) -> int:
        return milliseconds(self.job.entry)


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters; None is any. ``error`` is the class by its last name or in full."""

    handler: str | None = None
    team: str | None = None
    error: str | None = None

    def wants(self, letter: DeadLetter) -> bool:
        return (
            self.handler in (None, letter.handler)
            and self.team in (None, letter.team)
            and self.error in (None, letter.error, letter.error.rpartition(".")[2])
        )


def list_dead(
    client: redis.Redis,
    partitions: Iterable[PartitionKeys],
    wanted: DeadFilter,
    window: Window,
    limit: int,
) -> Page[DeadLetter]:
    """Up to ``limit`` dead letters of all ``partitions``, by when they were given up. Raises ``StoreUnavailable``."""
    among = {keys.partition: keys for keys in partitions}
    streams = {partition: keys.dead for partition, keys in among.items()}
    only = partition_of(wanted.team, len(streams)) if wanted.team is not None and streams else None

    def parse(partition: int, entry: str, fields: Fields) -> DeadLetter | None:
        letter = dead_letter(partition, entry, fields)
        return letter if wanted.wants(letter) else None

    page = merged(client, streams, window, limit, parse, only=only)
    return replace(page, records=with_events(client, among, page.records))


def dead_letter(partition: int, entry: str, fields: Fields) -> DeadLetter:
    """An entry of the dead stream, without its event."""
    job = jobs.decode(fields[b"job"])
    lane = fields[b"lane"].decode()
    return DeadLetter(
        partition=partition,
        entry=entry,
        at=milliseconds(entry),
        handler=fields[b"handler"].decode(),
        lane=lane,
        team=team_of(lane),
        event_id=None,
        type=None,
        job=job,
        attempts=int(fields[b"attempts"]),
        error=fields[b"error"].decode(errors="replace"),
        text=fields[b"text"].decode(errors="replace"),
        size=0,
    )


def with_events(
    client: redis.Redis, partitions: Mapping[int, PartitionKeys], letters: Sequence[DeadLetter]
) -> list[DeadLetter]:
    """The letters with what their events' bodies say. Raises ``StoreUnavailable``."""
    found: list[DeadLetter] = []
    for start in range(0, len(letters), TOGETHER):
        some = letters[start : start + TOGETHER]
        with unavailable_as_error():
            pipe = client.pipeline(transaction=False)
            for letter in some:
                pipe.xrange(partitions[letter.partition].inbox, letter.job.entry, letter.job.entry)
            answers = pipe.execute()
        for letter, answer in zip(some, answers, strict=True):
            body = as_mapping(answer[0][1]).get(b"b", b"") if answer else b""
            event = _event(body, letter.team)
            found.append(replace(letter, event_id=event and event.id, type=event and event.type, size=len(body)))
    return found


def _event(body: bytes, url_team: str | None) -> Envelope | None:
    try:
        return read(body, url_team)
    except Unreadable:
        return None
