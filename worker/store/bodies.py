"""Fetches the bodies of claimed jobs from the inbox, where each is stored once for all handlers.

Jobs that are claimed together mostly arrived together, so their bodies stand side by side in the stream. One range read
of such a stretch costs a third of reading them one by one, on the server and here. How dense a stretch is can only be
found out by reading: as long as at least half of what a range brings is wanted, the next range follows; after that the
rest is asked for one by one. So no more than about twice the wanted bytes are ever read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final

import redis

from worker.store.client import unavailable_as_error

MARGIN: Final = 8  # entries beyond the wanted number that a range may bring
WORTHWHILE: Final = 4  # with fewer wanted, a range has nothing to save


def fetch(client: redis.Redis, inbox: str, entries: Iterable[str]) -> dict[str, bytes]:
    """Entry id -> raw body; one that is not in the inbox any more is missing. Raises ``StoreUnavailable``."""
    # Stream ids are ordered by their two numbers, not as text.
    wanted = sorted({_place(entry): entry.encode() for entry in entries}.items())
    found: dict[str, bytes] = {}
    at = 0
    with unavailable_as_error():
        while len(wanted) - at >= WORTHWHILE:
            left = {entry for _, entry in wanted[at:]}
            most = len(left) + MARGIN
            brought: Any = client.xrange(inbox, wanted[at][1], wanted[-1][1], most)
            hits = [(entry, fields) for entry, fields in brought if entry in left]
            found.update((entry.decode(), _body(fields)) for entry, fields in hits)
            if len(brought) < most:
                return found  # the range reached its end: what it did not bring is not there
            reached = _place(brought[-1][0].decode())
            at = bisect_right(wanted, reached, key=itemgetter(0))
            if len(hits) * 2 < len(brought):
                break
        if at < len(wanted):
            pipe = client.pipeline(transaction=False)
            for _, entry in wanted[at:]:
                pipe.xrange(inbox, entry, entry)
            for answer in pipe.execute():
                found.update((entry.decode(), _body(fields)) for entry, fields in answer)
    return found


def _body(fields: list[bytes]) -> bytes:
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return named.get(b"b", b"")


def _place(entry: str) -> tuple[int, int]:
    time, _, number = entry.partition("-")
    return int(time), int(number)
