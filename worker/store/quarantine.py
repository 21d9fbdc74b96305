"""Reads the quarantine: deliveries that were signed and could not be used (written by worker/store/sequence.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import redis

from worker.core.envelope import Unreadable, read, team_of
from worker.store.keys import PartitionKeys, partition_of
from worker.store.pages import Fields, Page, Window, merged, milliseconds


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
