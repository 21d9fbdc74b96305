"""The books: counters that change in the same script as what they count, and the audit that compares them.

====================  ==============================================================================================
counter               counts
====================  ==============================================================================================
read                  deliveries taken from the inbox
duplicates            deliveries whose event id had been seen
quarantined           deliveries that could not be understood, or not told from a duplicate
proofs                entries that prove a gap empty, which carry no event
released              events put out in order
stored                events whose body is kept because handlers have jobs for them
late, stale, twins    events below the watermark; of those, overtaken ones; events that share a number
gaps, overflowed      gaps given up; of those, because too many events were held
routed:H done:H       jobs of handler H: given to it; succeeded; discarded by it or its ``when``; given up;
discarded:H dead:H    failed attempts that are tried again
retried:H
====================  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts


@dataclass(frozen=True, slots=True)
class HandlerBooks:
    """One handler's jobs in one partition. ``waiting`` is counted in the lanes, the rest comes from the ledger."""

    routed: int
    done: int
    discarded: int
    dead: int
    retried: int
    waiting: int

    @property
    def drift(self) -> int:
        """Jobs that are missing (positive) or too many (negative); 0 when the books are right."""
        return self.routed - self.done - self.discarded - self.dead - self.waiting


@dataclass(frozen=True, slots=True)
class PartitionBooks:
    """What a partition holds, counted, beside what its ledger says."""

    partition: int
    accepted: int
    in_stream: int
    unread: int
    held: int
    quarantine: int
    dead: int
    ledger: Mapping[str, int]
    handlers: Mapping[str, HandlerBooks] = field(default_factory=dict)

    @property
    def drift(self) -> int:
        """Accepted deliveries that are nowhere (positive) or twice (negative). Conservation: always 0."""
        count = self.ledger.get
        ended = count("duplicates", 0) + count("quarantined", 0) + count("proofs", 0) + count("released", 0)
        return self.accepted - ended - self.held - self.unread

    @property
    def stream_drift(self) -> int:
        """Bodies in the stream that nothing needs (positive), or that are needed and gone (negative)."""
        return self.in_stream - self.unread - self.held - self.ledger.get("stored", 0)


def take(scripts: Scripts, keys: PartitionKeys, handlers: Iterable[str]) -> PartitionBooks:
    """Count a partition, in one step on the server. Raises ``StoreUnavailable``."""
    names = list(handlers)
    fixed = [keys.inbox, keys.state, keys.gaps, keys.ledger, keys.held(""), keys.quarantine, keys.dead]
    per_handler = [key for name in names for key in (keys.ready(name), keys.lane(name, ""))]
    accepted, in_stream, unread, held, quarantine, dead, flat, *waiting = scripts.run("audit", fixed + per_handler, [])
    ledger = {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
    return PartitionBooks(
        partition=keys.partition,
        accepted=accepted,
        in_stream=in_stream,
        unread=unread,
        held=held,
        quarantine=quarantine,
        dead=dead,
        ledger=ledger,
        handlers={
            name: HandlerBooks(
                routed=ledger.get(f"routed:{name}", 0),
                done=ledger.get(f"done:{name}", 0),
                discarded=ledger.get(f"discarded:{name}", 0),
                dead=ledger.get(f"dead:{name}", 0),
                retried=ledger.get(f"retried:{name}", 0),
                waiting=jobs,
            )
            for name, jobs in zip(names, waiting, strict=True)
        },
    )
