"""Reads dead letters: jobs that were given up, kept with their event until a person acts (written by settle.lua)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import redis

from worker.core import jobs
from worker.core.envelope import Envelope, Unreadable, read
from worker.store.keys import PartitionKeys, partition_of
from worker.store.pages import Fields, Page, Window, merged, milliseconds


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
    seq: int
    late: bool
    attempts: int
    error: str
    text: str = field(repr=False)
    size: int
    arrived: int


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
    streams = {keys.partition: keys.dead for keys in partitions}
    only = partition_of(wanted.team, len(streams)) if wanted.team is not None and streams else None

    def parse(partition: int, entry: str, fields: Fields) -> DeadLetter | None:
        letter = dead_letter(partition, entry, fields)
        return letter if wanted.wants(letter) else None

    return merged(client, streams, window, limit, parse, only=only)


def dead_letter(partition: int, entry: str, fields: Fields) -> DeadLetter:
    """An entry of the dead stream, understood."""
    body = fields.get(b"b", b"")
    job = jobs.decode(fields[b"job"])
    lane = fields[b"lane"].decode()
    event = _event(body, fields[b"t"].decode() if b"t" in fields else None)
    return DeadLetter(
        partition=partition,
        entry=entry,
        at=milliseconds(entry),
        handler=fields[b"handler"].decode(),
        lane=lane,
        team=event.team if event else lane,
        event_id=event.id if event else None,
        type=event.type if event else None,
        seq=job.seq,
        late=job.late,
        attempts=int(fields[b"attempts"]),
        error=fields[b"error"].decode(errors="replace"),
        text=fields[b"text"].decode(errors="replace"),
        size=len(body),
        arrived=milliseconds(job.entry),
    )


def _event(body: bytes, url_team: str | None) -> Envelope | None:
    try:
        return read(body, url_team)
    except Unreadable:
        return None
