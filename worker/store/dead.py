"""Reads dead letters: jobs that were given up, kept until a person acts (written by settle.lua).

A letter keeps its event's body in the inbox, as a job does; the two are put together here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import redis

from worker.core import jobs
from worker.core.changes import stale_by_now
from worker.core.envelope import Envelope, Unreadable, read
from worker.core.jobs import Job
from worker.core.lanes import team_of
from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys, partition_of
from worker.store.lanes import Attempt
from worker.store.pages import (
    ALL,
    Fields,
    Page,
    Window,
    as_mapping,
    entries_at,
    entry_place,
    merged,
    milliseconds,
)
from worker.store.records import decode_owner

_decode_attempts: Final = msgspec.json.Decoder(list[Attempt]).decode

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


class Letter(NamedTuple):
    """As much of a dead letter as acting on thousands of them takes. ``job`` is its text (core/jobs.py)."""

    partition: int
    entry: str
    at: int
    handler: str
    lane: str
    error: str
    job: bytes

    @property
    def team(self) -> str:
        return team_of(self.lane)

    @property
    def inbox_entry(self) -> str:
        return self.job.partition(b" ")[0].decode()

    @property
    def size(self) -> int:
        return int(self.job.split(b" ", 3)[2])

    @property
    def order(self) -> tuple[str, str, int, tuple[int, int]]:
        """Lane by lane, in each in the order of its events."""
        return self.handler, self.lane, int(self.job.split(b" ", 4)[3]), entry_place(self.inbox_entry)


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A dead letter with all that is kept of it: the attempts that failed and the event's body (empty: it was lost).

    ``overtaken``: a newer change of its prospect has another owner, so that a call would undo it.
    """

    letter: DeadLetter
    attempts: Sequence[Attempt]
    body: bytes = field(repr=False)
    overtaken: bool


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters; None is any. ``error`` is the class by its last name or in full."""

    handler: str | None = None
    team: str | None = None
    error: str | None = None

    def wants(self, letter: DeadLetter | Letter) -> bool:
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


def select_dead(
    client: redis.Redis, partitions: Iterable[PartitionKeys], wanted: DeadFilter, window: Window
) -> list[Letter]:
    """All dead letters that match, in the order to retry them in. Raises ``StoreUnavailable``."""
    streams = {keys.partition: keys.dead for keys in partitions}
    only = partition_of(wanted.team, len(streams)) if wanted.team is not None and streams else None

    def parse(partition: int, entry: str, fields: Fields) -> Letter | None:
        found = letter(partition, entry, fields)
        return found if wanted.wants(found) else None

    found = merged(client, streams, window, ALL, parse, only=only).records
    return sorted(found, key=attrgetter("order"))


def letters_at(
    client: redis.Redis, partitions: Iterable[PartitionKeys], places: Sequence[tuple[int, str]]
) -> list[Letter]:
    """The dead letters at ``places``, in the order to retry them in; those that are gone are missing.

    Raises ``StoreUnavailable``.
    """
    streams = {keys.partition: keys.dead for keys in partitions}
    found = entries_at(client, streams, list(dict.fromkeys(places)))
    letters = [letter(partition, entry, fields) for partition, entry, fields in found if fields is not None]
    return sorted(letters, key=attrgetter("order"))


def open_letter(
    client: redis.Redis,
    partitions: Iterable[PartitionKeys],
    place: tuple[int, str],
    take_events: AbstractSet[str] = frozenset(),
) -> OpenLetter | None:
    """A dead letter with everything, None if there is none (any more) at ``place``. ``take_events`` are handlers that
    are called with events, of which none overtakes another. Raises ``StoreUnavailable``."""
    among = {keys.partition: keys for keys in partitions}
    streams = {partition: keys.dead for partition, keys in among.items()}
    ((partition, entry, fields),) = entries_at(client, streams, [place])
    if fields is None:
        return None
    read_letter = dead_letter(partition, entry, fields)
    (found,) = with_events(client, among, [read_letter])
    keys, body = among[partition], b""
    for _, _, kept in entries_at(client, {partition: keys.inbox}, [(partition, read_letter.job.entry)]):
        body = b"" if kept is None else kept.get(b"b", b"")
    event, change, stale = _event(body, read_letter.team), read_letter.job.change, False
    states = read_letter.handler not in take_events
    if states and event is not None and event.prospect is not None and change is not None:
        with unavailable_as_error():
            text: Any = client.get(keys.owner(event.team, event.prospect))
        stale = stale_by_now(change, None if text is None else decode_owner(text), event)
    return OpenLetter(found, _decode_attempts(fields[b"trouble"] or b"[]"), body, stale)


def letter(partition: int, entry: str, fields: Fields) -> Letter:
    """An entry of the dead stream, as little as is needed of it."""
    return Letter(
        partition=partition,
        entry=entry,
        at=milliseconds(entry),
        handler=sys.intern(fields[b"handler"].decode()),
        lane=fields[b"lane"].decode(),
        error=sys.intern(fields[b"error"].decode(errors="replace")),
        job=fields[b"job"],
    )


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
