"""The quarantine: deliveries that were signed and could not be used (written by worker/store/sequence.py).

One that is retried goes to the end of the inbox, as if it were accepted once more, and leaves the quarantine in that
script. Another version of Handoff may read what this one can't; and a person may vouch for what is too old.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import redis

from worker.core.envelope import Unreadable, read, team_of
from worker.core.sequencing import TOO_OLD
from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys, partition_of
from worker.store.pages import ALL, Fields, Page, Window, entries_at, entry_place, merged, milliseconds
from worker.store.scripts import Scripts, Word


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A delivery without its body, of which there is only the ``size`` in bytes.

    ``at`` is when it was quarantined, ``arrived`` when it came in, both server ms. ``reason`` is one of a few words
    (worker/core/envelope.py, worker/core/sequencing.py), ``detail`` a sentence of ours without content.
    ``team`` and ``event_id`` are None where they can't be read.
    """

    partition: int
    entry: str
    at: int
    reason: str
    detail: str
    team: str | None
    event_id: str | None
    size: int
    arrived: int

    @property
    def unreadable(self) -> bool:
        """This version of Handoff can't read it either, so it would only come back."""
        return self.event_id is None

    @property
    def doubtful(self) -> bool:
        """It may be a duplicate, for all that anybody but a person can tell."""
        return self.reason == TOO_OLD


def list_quarantine(
    client: redis.Redis,
    partitions: Iterable[PartitionKeys],
    window: Window,
    limit: int,
    *,
    team: str | None = None,
    reason: str | None = None,
) -> Page[Quarantined]:
    """Up to ``limit`` quarantined deliveries of all ``partitions``, by time; ``None`` is any team or reason.

    Raises ``StoreUnavailable``.
    """
    streams = {keys.partition: keys.quarantine for keys in partitions}
    only = partition_of(team, len(streams)) if team is not None and streams else None

    def parse(partition: int, entry: str, fields: Fields) -> Quarantined | None:
        found = quarantined(partition, entry, fields)
        return found if team in (None, found.team) and reason in (None, found.reason) else None

    return merged(client, streams, window, limit, parse, only=only)


def quarantined_at(
    client: redis.Redis, partitions: Iterable[PartitionKeys], places: Sequence[tuple[int, str]]
) -> list[Quarantined]:
    """The deliveries at ``places``, in the order to retry them in; those that are gone are missing.

    Raises ``StoreUnavailable``.
    """
    streams = {keys.partition: keys.quarantine for keys in partitions}
    found = entries_at(client, streams, list(dict.fromkeys(places)))
    return in_order(quarantined(partition, entry, fields) for partition, entry, fields in found if fields is not None)


def select_quarantine(
    client: redis.Redis,
    partitions: Iterable[PartitionKeys],
    window: Window,
    *,
    team: str | None = None,
    reason: str | None = None,
) -> list[Quarantined]:
    """All that match, in the order to retry them in. Raises ``StoreUnavailable``."""
    return in_order(list_quarantine(client, partitions, window, ALL, team=team, reason=reason).records)


def in_order(deliveries: Iterable[Quarantined]) -> list[Quarantined]:
    """As they came in, partition by partition."""
    return sorted(deliveries, key=lambda found: (found.partition, found.arrived, entry_place(found.entry)))


def body_of(client: redis.Redis, keys: PartitionKeys, entry: str) -> bytes:
    """The body of a quarantined delivery, empty if it is gone. Raises ``StoreUnavailable``."""
    ((_, _, fields),) = entries_at(client, {keys.partition: keys.quarantine}, [(keys.partition, entry)])
    return b"" if fields is None else fields.get(b"b", b"")


def requeue(scripts: Scripts, keys: PartitionKeys, deliveries: Sequence[Quarantined]) -> list[bool]:
    """Accept deliveries of one partition once more, vouching for those that may be duplicates: whether each was still
    there. Raises ``StoreUnavailable``."""
    words: list[Word] = [word for found in deliveries for word in (found.entry, int(found.doubtful))]
    return [bool(answer) for answer in scripts.run("requeue", [keys.quarantine, keys.inbox], words)]


def drop_quarantined(client: redis.Redis, keys: PartitionKeys, deliveries: Sequence[Quarantined]) -> list[bool]:
    """Forget deliveries of one partition: whether each was still there. Raises ``StoreUnavailable``."""
    with unavailable_as_error():
        pipe = client.pipeline(transaction=True)
        for found in deliveries:
            pipe.xdel(keys.quarantine, found.entry)
        return [bool(answer) for answer in pipe.execute()]


def quarantined(partition: int, entry: str, fields: Fields) -> Quarantined:
    """An entry of the quarantine stream, understood."""
    body = fields.get(b"b", b"")
    url_team = fields[b"t"].decode() if b"t" in fields else None
    try:
        event_id = read(body, url_team).id
    except Unreadable:
        event_id = None
    return Quarantined(
        partition=partition,
        entry=entry,
        at=milliseconds(entry),
        reason=fields[b"reason"].decode(),
        detail=fields[b"detail"].decode(),
        team=team_of(body, url_team),
        event_id=event_id,
        size=len(body),
        arrived=milliseconds(fields[b"entry"].decode()),
    )
