"""Answers a sequencer's doorbell: reads a partition's inbox until it is empty, or the time slice is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from worker.core.changes import Change
from worker.core.lateness import GapWait
from worker.core.sequencing import Plan, Policy, plan
from worker.errors import LeaseLost, StoreUnavailable
from worker.runtime.process import Process
from worker.runtime.registry import router
from worker.runtime.sweeper import PERIOD
from worker.settings import Settings
from worker.store.keys import PartitionKeys
from worker.store.scripts import Code
from worker.store.sequence import Batch, Lease, SequenceStore

SLICE: Final = 1.0  # seconds; then other partitions and handlers get their turn
FIRST_BATCH: Final = 32
MOST_BATCH: Final = 512
BATCH_BYTES: Final = 4 * 1024 * 1024
"""A batch grows from FIRST to MOST while the bodies stay below this, so big bodies can't fill a worker's memory."""

log = structlog.get_logger("handoff.sequencer")


def policy_of(settings: Settings) -> Policy:
    """The settings that ordering depends on."""
    return Policy(
        gap_wait=GapWait(
            fixed_ms=None if settings.gap_wait is None else int(settings.gap_wait * 1000),
            least_ms=int(settings.gap_wait_min * 1000),
            most_ms=int(settings.gap_wait_max * 1000),
        ),
        held_max=settings.held_max,
        dedup_window_ms=int(settings.dedup_window * 1000),
    )


class Sequencer:
    """One answer to one doorbell."""

    def __init__(self, process: Process, partition: int) -> None:
        self._process = process
        self._partition = partition
        settings = process.settings
        self._policy = policy_of(settings)
        self._quarantine_max = settings.quarantine_max
        self._store = SequenceStore(
            process.client, process.scripts, PartitionKeys(settings.prefix, partition), settings
        )
        self._route: Callable[[str, Change | None], Sequence[str]] = router(process.registry)

    def run(self) -> int:
        """Sequence until the inbox is empty or the slice is over; the number of deliveries read. Never raises."""
        read = 0
        try:
            lease = self._store.acquire()
            if lease is None:
                return 0  # whoever has the lease looks again before letting go
            read = self._work(lease)
        except LeaseLost:
            log.warning("sequencer_lease_lost", partition=self._partition)
        except StoreUnavailable as error:
            # The lease runs out by itself, and the sweeper rings when the server is back.
            log.warning("sequencer_store_unavailable", partition=self._partition, error=str(error))
        return read

    def _work(self, lease: Lease) -> int:
        store, read, count = self._store, 0, FIRST_BATCH
        end = time.monotonic() + SLICE
        while True:
            batch = store.read(lease, count)
            self._sequence(lease, batch)
            read += len(batch.deliveries)
            over = time.monotonic() >= end
            if batch.drained or over:
                code, deadline = store.release(lease, hand_on=over)
                if code == Code.HANDED_ON:
                    self._process.bells.sequencer(self._partition)
                if code != Code.MORE:
                    self._ring_at(deadline, batch.now)
                    return read
            average = batch.size // max(1, len(batch.deliveries)) + 1
            count = max(1, min(count * 4, MOST_BATCH, BATCH_BYTES // average))

    def _sequence(self, lease: Lease, batch: Batch) -> None:
        if not batch.deliveries and not batch.due:
            return
        store = self._store
        decided = self._plan(lease, batch)
        committed = store.commit(lease, batch, decided, self._route, self._quarantine_max)
        for handler in committed.bells:
            self._process.bells.runner(handler, self._process.registry[handler].queue, self._partition)
        for item in decided.quarantined:
            log.warning("quarantined", partition=self._partition, entry=item.entry, reason=item.reason)

    def _plan(self, lease: Lease, batch: Batch) -> Plan:
        state = self._store.load(lease, batch)
        return plan(state, batch.deliveries, batch.clock, self._policy, batch.due, now=batch.now)

    def _ring_at(self, deadline: int | None, now: int) -> None:
        """A gap whose wait ends before the sweeper would look gets a bell of its own."""
        if deadline is not None and deadline - now < PERIOD * 1000:
            self._process.bells.sequencer(self._partition, delay=max(0.001, (deadline - now + 1) / 1000))
