"""Fetches the bodies of claimed jobs from the inbox, where each is stored once for all handlers.

Jobs that are claimed together mostly arrived together, so their bodies stand side by side in the stream. One range read
of such a stretch costs a third of reading them one by one, on the server and here. How dense a stretch is can only be
found out by reading: as long as at least half of what a range brings is wanted, the next range follows; after that the
rest is asked for one by one. So no more than about twice the wanted bytes are ever read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import redis

from worker.store.client import unavailable_as_error

MARGIN: Final = 8  # entries beyond the wanted number that a range may bring
WORTHWHILE: Final = 4  # with fewer wanted, a range has nothing to save

Body = tuple[bytes, str | None]
"""The raw body, and the team that the URL named, if it did."""

LOST: Final[Body] = (b"", None)


def fetch(client: redis.Redis, inbox: str, entries: Iterable[str]) -> dict[str, Body]:
    """Entry id -> body; one that is not in the inbox any more is missing. Raises ``StoreUnavailable``."""
    wanted = sorted(set(entries), key=_place)
    found: dict[str, Body] = {}
    at = 0
    with unavailable_as_error():
        while len(wanted) - at >= WORTHWHILE:
            left = set(wanted[at:])
            brought: Any = client.xrange(inbox, wanted[at], wanted[-1], len(left) + MARGIN)
            hits = 0
            for name, fields in brought:
                entry = name.decode()
                if entry in left:
                    hits += 1
                    found[entry] = _body(fields)
            if len(brought) < len(left) + MARGIN:
                return found  # the range reached its end: what it did not bring is not there
            last = _place(brought[-1][0].decode())
            while at < len(wanted) and _place(wanted[at]) <= last:
                at += 1
            if hits * 2 < len(brought):
                break
        if at < len(wanted):
            pipe = client.pipeline(transaction=False)
            for entry in wanted[at:]:
                pipe.xrange(inbox, entry, entry)
            for entry, brought in zip(wanted[at:], pipe.execute(), strict=True):
                if brought:
                    found[entry] = _body(brought[0][1])
    return found


def _body(fields: list[bytes]) -> Body:
    if len(fields) == 2:
        return fields[1], None
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    team = named.get(b"t")
    return named.get(b"b", b""), None if team is None else team.decode(errors="replace")


def _place(entry: str) -> tuple[int, int]:
    """Stream ids are ordered by their two numbers, not as text."""
    time, _, number = entry.partition("-")
    return int(time), int(number)
