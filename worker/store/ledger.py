"""The books: counters that change in the same script as what they count, and the audit that compares them.

====================  ==============================================================================================
counter               counts
====================  ==============================================================================================
read                  deliveries taken from the inbox
duplicates            deliveries whose event id had been seen
quarantined           deliveries that could not be understood, or not told from a duplicate
proofs                entries that prove a gap empty, which carry no event
released              events put out in order
stored                events whose body is kept: for jobs, dead letters or the archive
kept kept_bytes       those of them that no job waits for; the sum of these bodies
archive_bytes         the sum of the bodies that the archive keeps; records that it let go
trimmed
late, stale, twins    events below the watermark; of those, overtaken ones; events that share a number
gaps, overflowed      gaps given up; of those, because too many events were held
routed:H done:H       jobs of handler H: given to it; succeeded; discarded by it or its ``when``; absorbed by a later
discarded:H           one of their prospect; given up; failed attempts that are tried again
conflated:H dead:H
retried:H
====================  ==============================================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import redis

from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one step may count; nothing else runs on the server meanwhile. ``keys``: lanes and held teams together.

    What there is more of is taken from the ledger. Measured on Valkey 9.1, each 1,000: 2 ms for unread entries
    of 200 bytes, 5 ms for those of 1.6 KB, 3 ms for lanes.
    """

    entries: int = sys.maxsize
    size: int = sys.maxsize
    keys: int = sys.maxsize


UNBOUNDED: Final = Bounds()


@dataclass(frozen=True, slots=True)
class HandlerBooks:
    """One handler's jobs in one partition. ``waiting`` is counted in the lanes, the rest comes from the ledger.

    Without ``counted``, ``waiting`` comes from the ledger too, and ``drift`` says nothing.
    """

    routed: int
    done: int
    discarded: int
    dead: int
    retried: int
    waiting: int
    counted: bool = True
    conflated: int = 0

    @property
    def drift(self) -> int:
        """Jobs that are missing (positive) or too many (negative); 0 when the books are right."""
        return self.routed - self.done - self.discarded - self.conflated - self.dead - self.waiting


@dataclass(frozen=True, slots=True)
class PartitionBooks:
    """What a partition holds, counted, beside what its ledger says. ``last_entry`` is the newest ever accepted.

    ``unread`` and ``held`` come from the ledger where ``unread_counted`` and ``held_counted`` say so. ``drift`` still
    compares whichever of them was counted; with neither it says nothing. ``stream_drift`` always says something.
    """

    partition: int
    accepted: int
    in_stream: int
    unread: int
    held: int
    quarantine: int
    dead: int
    ledger: Mapping[str, int]
    handlers: Mapping[str, HandlerBooks] = field(default_factory=dict)
    last_entry: str = "0-0"
    unread_counted: bool = True
    held_counted: bool = True

    @property
    def drift(self) -> int:
        """Accepted deliveries that are nowhere (positive) or twice (negative). Conservation: always 0."""
        return self.accepted - ended(self.ledger) - self.held - self.unread

    @property
    def waiting(self) -> int:
        """Accepted deliveries that somebody still has to work on."""
        return self.in_stream - self.ledger.get("kept", 0)

    @property
    def stream_drift(self) -> int:
        """Bodies in the stream that nothing needs (positive), or that are needed and gone (negative)."""
        return self.in_stream - self.unread - self.held - self.ledger.get("stored", 0)


def ended(ledger: Mapping[str, int]) -> int:
    """Deliveries that were read and no longer wait for others of their team."""
    return sum(ledger.get(name, 0) for name in ("duplicates", "quarantined", "proofs", "released"))


def waiting_jobs(ledger: Mapping[str, int], handler: str) -> int:
    """Jobs of ``handler`` that the ledger says are in its lanes."""
    gone = sum(ledger.get(f"{name}:{handler}", 0) for name in ("done", "discarded", "conflated", "dead"))
    return ledger.get(f"routed:{handler}", 0) - gone


def handlers_in(ledgers: Iterable[Mapping[str, int]]) -> set[str]:
    """Every handler that was ever given a job."""
    return {name.partition(":")[2] for ledger in ledgers for name in ledger if name.startswith("routed:")}


def read_ledgers(client: redis.Redis, partitions: Sequence[PartitionKeys]) -> list[dict[str, int]]:
    """The ledgers alone, each as it is at its own moment. Raises ``StoreUnavailable``."""
    found: list[dict[str, int]] = []
    for start in range(0, len(partitions), 256):
        with unavailable_as_error():
            pipe = client.pipeline(transaction=False)
            for keys in partitions[start : start + 256]:
                pipe.hgetall(keys.ledger)
            found += [{name.decode(): int(count) for name, count in ledger.items()} for ledger in pipe.execute()]
    return found


def take(scripts: Scripts, keys: PartitionKeys, handlers: Iterable[str], bounds: Bounds = UNBOUNDED) -> PartitionBooks:
    """Count a partition, in one step on the server. Raises ``StoreUnavailable``."""
    names = list(handlers)
    fixed = [keys.inbox, keys.state, keys.gaps, keys.ledger, keys.held(""), keys.quarantine, keys.dead]
    per_handler = [key for name in names for key in (keys.ready(name), keys.lane(name, ""))]
    accepted, in_stream, unread, held, quarantine, dead, last, flat, *waiting = scripts.run(
        "audit", fixed + per_handler, [bounds.entries, bounds.size, bounds.keys]
    )
    ledger = {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
    read = ledger.get("read", 0)
    return PartitionBooks(
        partition=keys.partition,
        accepted=accepted,
        in_stream=in_stream,
        unread=unread if unread >= 0 else accepted - read,
        held=held if held >= 0 else read - ended(ledger),
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
                waiting=jobs if jobs >= 0 else waiting_jobs(ledger, name),
                counted=jobs >= 0,
                conflated=ledger.get(f"conflated:{name}", 0),
            )
            for name, jobs in zip(names, waiting, strict=True)
        },
        last_entry=last.decode(),
        unread_counted=unread >= 0,
        held_counted=held >= 0,
    )


PAGE: Final = 256
PAGE_BYTES: Final = 1024 * 1024
"""Entries, and bytes of bodies, counted in one step: the server is held up for about a millisecond at a time."""


def count_unread(scripts: Scripts, keys: PartitionKeys, books: PartitionBooks) -> PartitionBooks:
    """``books`` with the unread deliveries counted, in many short steps. Raises ``StoreUnavailable``.

    Nothing leaves the inbox above the cursor, so what was unread when ``books`` were taken is what is still unread of
    it, counted from the newest down, and what was read since. A sequencer that meets the count on its way up has
    read some of what was counted before: then ``books`` come back as they were.
    """
    counted, highest = 0, books.last_entry
    above: str | None = None  # the lowest entry that was counted
    while True:
        answer: Any = scripts.run("unread", [keys.inbox, keys.state, keys.ledger], [highest, PAGE, PAGE_BYTES])
        (found, _, more, _, read), lowest, cursor = answer, answer[1].decode(), answer[3].decode()
        if above is not None and _place(cursor) >= _place(above):
            return books
        counted += found
        if not more:
            return replace(books, unread=counted + read - books.ledger.get("read", 0), unread_counted=True)
        above, highest = lowest, f"({lowest}"


def _place(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)
