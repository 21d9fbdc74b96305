"""Records, in a worker, who took which lease and which commits the server accepted: the evidence for a single writer.

A lease is recorded with the times before it was asked for and when the answer was there, a commit with the time before
it was sent: so where they can't have overlapped, it is known in which order the server saw them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.chaos import recorder
from worker.errors import LeaseLost
from worker.store.lanes import LaneStore
from worker.store.sequence import SequenceStore

_installed = False


def install() -> None:
    """Watch this process and those forked from it."""
    global _installed  # noqa: PLW0603 - once per process is the point
    if not _installed:
        _installed = True
        _watch_lanes()
        _watch_partitions()


def _watch_lanes() -> None:
    claim, settle = LaneStore.claim, LaneStore.settle

    def watched_claim(self: LaneStore, **terms: Any) -> Any:
        asked = time.monotonic()
        found = claim(self, **terms)
        where = f"{self._inbox} {self._handler}"
        lanes = [lane.lane for lane in found.lanes]
        if lanes:
            recorder.write("taken", asked, time.monotonic(), found.token, [f"{where} {lane}" for lane in lanes])
        return found

    def watched_settle(self: LaneStore, settlements: Sequence[Any]) -> Any:
        sent = time.monotonic()
        kept = settle(self, settlements)
        where = f"{self._inbox} {self._handler}"
        lanes = [(f"{where} {item.lane}", item.token, item.lane in kept) for item in settlements]
        recorder.write("committed", sent, lanes)
        return kept

    LaneStore.claim = watched_claim  # type: ignore[method-assign]
    LaneStore.settle = watched_settle  # type: ignore[method-assign,assignment]


def _watch_partitions() -> None:
    acquire, commit = SequenceStore.acquire, SequenceStore.commit
    first: dict[int, int] = {}  # a lease object -> its first token: each commit gives it another

    def watched_acquire(self: SequenceStore) -> Any:
        asked = time.monotonic()
        lease = acquire(self)
        if lease is not None:
            first[id(lease)] = lease.token
            recorder.write("taken", asked, time.monotonic(), lease.token, [self._keys.inbox])
        return lease

    def watched_commit(self: SequenceStore, lease: Any, *rest: Any, **more: Any) -> Any:
        sent = time.monotonic()
        try:
            done = commit(self, lease, *rest, **more)
        except LeaseLost:
            recorder.write("committed", sent, [(self._keys.inbox, first[id(lease)], False)])
            raise
        recorder.write("committed", sent, [(self._keys.inbox, first[id(lease)], True)])
        return done

    SequenceStore.acquire = watched_acquire  # type: ignore[method-assign]
    SequenceStore.commit = watched_commit  # type: ignore[method-assign]
