"""A partition's archive: the released events of late, bounded in number, bytes and age (written by the sequencer).

A record is found by its *position*: how many records there ever were before it. Records leave from the front only, so a
position stays true, and whoever reads the archive piece by piece can go on where it stopped.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import redis

from worker.core.archive import Record, decode
from worker.settings import Settings
from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts

AT_ONCE: Final = 1000  # records taken out by one script: a few milliseconds of the server's


@dataclass(frozen=True, slots=True)
class Slice:
    """``records`` from ``position`` on; ``end`` is the position after the newest record there is."""

    position: int
    records: list[Record]
    end: int


class Archive:
    """Every method may raise ``StoreUnavailable``."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: PartitionKeys, settings: Settings) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys
        self._bounds = (settings.archive_events, int(settings.archive_bytes))
        self._age_ms = int(settings.archive_age * 1000)

    def end(self) -> int:
        """The position after the newest record there is."""
        return self.read(sys.maxsize, 1).end

    def trim(self, now: int) -> int:
        """Take out what is over the bounds at ``now`` (server ms), how many were."""
        keys = self.keys
        taken = 0
        names = [keys.archive, keys.ids, keys.ends, keys.refs, keys.inbox, keys.ledger, keys.again]
        while True:
            count, more = self.scripts.run("trim", names, [*self._bounds, now - self._age_ms, AT_ONCE])
            taken += int(count)
            if not more:
                return taken

    def read(self, position: int, count: int) -> Slice:
        """Up to ``count`` records from ``position`` on, or from the oldest that is left where that is later."""
        keys = self.keys
        with unavailable_as_error():
            while True:
                pipe = self.client.pipeline(transaction=True)
                pipe.hget(keys.ledger, "trimmed")
                pipe.llen(keys.archive)
                trimmed, length = pipe.execute()
                first = int(trimmed or 0)
                start = max(position, first)
                pipe = self.client.pipeline(transaction=True)
                pipe.lrange(keys.archive, start - first, start - first + count - 1)
                pipe.hget(keys.ledger, "trimmed")
                texts, after = pipe.execute()
                if after == trimmed:  # else records have left in between, and others moved up
                    return Slice(start, [decode(text) for text in texts], first + length)
