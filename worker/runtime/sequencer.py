"""Answers a sequencer's doorbell: reads a partition's inbox until it is empty, or the time slice is over.

A fault of ours must not stop a partition: nobody could get past the delivery that shows it. So a batch that raises
what nobody foresaw is done again in its smallest parts, and a part that still raises is set aside: a delivery to the
quarantine (``internal_error``), a team that is due for a minute. When part after part fails it is not them: then the
run ends, and the next begins when the lease has run out, so that a broken release does not empty inboxes into
quarantines.
"""

from __future__ import annotations

import time
import traceback
from typing import Final

import structlog

from worker.core.dispatch import Route
from worker.core.envelope import Unreadable
from worker.core.lateness import GapWait
from worker.core.sequencing import INTERNAL_ERROR, Delivery, Plan, Policy, plan
from worker.doorbell import Carried, runner_bell
from worker.errors import LeaseLost, StoreError, StoreUnavailable
from worker.runtime.process import Process
from worker.runtime.registry import router
from worker.runtime.sweeper import PERIOD
from worker.settings import Settings
from worker.store.archive import Archive
from worker.store.batch import Batch
from worker.store.client import RIGHTS, lacks_right
from worker.store.keys import PartitionKeys
from worker.store.scripts import Code
from worker.store.sequence import FIRST_BATCH, Committed, Lease, SequenceStore

SLICE: Final = 1.0  # seconds; then other partitions and handlers get their turn
MOST_BATCH: Final = 512
"""A batch grows from FIRST to MOST entries; how many bytes it may have is the store's to keep (BATCH_BYTES)."""

SLOW: Final = 0.5  # seconds that a batch may take and the next still be larger: it must stay well within the lease
FAULTS_IN_A_ROW: Final = 8

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
        held_bytes=int(settings.held_bytes),
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
        self._route: Route = router(process.registry)
        keys = PartitionKeys(settings.prefix, partition)
        self._archive = Archive(process.client, process.scripts, keys, settings) if settings.archive_events else None

    def run(self) -> int:
        """Sequence until the inbox is empty or the slice is over; the number of deliveries read. Never raises."""
        read = 0
        if self._process.shutdown.asked:
            self._process.bells.sequencer(self._partition)  # for another worker
            return 0
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
        except Exception as error:  # noqa: BLE001 - as above: to end the task with it would help nobody
            self._log_fault("sequencer_failed", error)
        return read

    def _work(self, lease: Lease) -> int:
        store, read, count = self._store, 0, FIRST_BATCH
        end = time.monotonic() + SLICE
        while True:
            began = time.monotonic()
            batch = store.read(lease, count)
            self._sequence_whatever_happens(lease, batch)
            read += len(batch.deliveries)
            now = time.monotonic()
            over = now >= end or self._process.shutdown.asked
            if (batch.drained and not batch.more_due) or over:
                code, deadline = store.release(lease, hand_on=over)
                if code == Code.HANDED_ON:
                    self._process.bells.sequencer(self._partition)
                if code != Code.MORE:
                    self._ring_at(deadline, batch.now)
                    return read
            count = max(1, min(count * 4 if now - began < SLOW else count // 4, MOST_BATCH))

    def _sequence_whatever_happens(self, lease: Lease, batch: Batch) -> None:
        learnt = list(lease.lateness.counts)
        try:
            self._sequence(lease, batch)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - see the module
            self._log_fault("batch_failed", error, deliveries=len(batch.deliveries), due=len(batch.due))
        else:
            return
        lease.lateness.counts = learnt
        faults = 0
        for part in batch.parts():
            try:
                self._sequence(lease, part)
                faults = 0
            except StoreError:
                raise
            except Exception as error:
                faults += 1
                if faults > FAULTS_IN_A_ROW:
                    raise
                entry = part.deliveries[0][0] if part.deliveries else None
                self._log_fault(INTERNAL_ERROR, error, entry=entry, due=part.due)
                self._write(lease, part, part.set_aside())

    def _sequence(self, lease: Lease, batch: Batch) -> None:
        if not batch.deliveries and not batch.due:
            return
        self._write(lease, batch, self._plan(lease, batch))

    def _write(self, lease: Lease, batch: Batch, decided: Plan) -> None:
        bells = self._process.bells
        try:
            committed = self._commit(lease, batch, decided, bells.carried)
        except StoreUnavailable as error:
            # The script has one more key then. Where rights were given out before that, it is refused as a whole.
            if bells.carried is None or not lacks_right(error.__cause__):
                raise
            committed = self._commit(lease, batch, decided, None)
            bells.carried = None
            log.warning("bells_not_carried", why=RIGHTS)
        bells.runners([self._process.registry[handler] for handler in committed.bells], self._partition)
        if self._archive is not None and decided.released:
            self._archive.trim(batch.now)
        for item in decided.quarantined:
            log.warning("quarantined", partition=self._partition, entry=item.entry, reason=item.reason)
        for delivery in batch.deliveries:
            if isinstance(delivery, Delivery) and isinstance(delivery.content, Unreadable):
                cause = delivery.content.__cause__
                if cause is not None:
                    self._log_fault(INTERNAL_ERROR, cause, entry=delivery.entry)

    def _commit(self, lease: Lease, batch: Batch, decided: Plan, carried: Carried | None) -> Committed:
        def push(handler: str) -> tuple[str, bytes]:
            assert carried is not None
            return carried.pushed(runner_bell(handler, self._process.registry[handler].queue, self._partition))

        return self._store.commit(
            lease, batch, decided, self._route, self._quarantine_max, push=None if carried is None else push
        )

    def _log_fault(self, event: str, error: BaseException, **context: object) -> None:
        """With the way through the code, and without the error's text, which may quote what was delivered."""
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error(event, partition=self._partition, error=type(error).__name__, traceback=where, **context)

    def _plan(self, lease: Lease, batch: Batch) -> Plan:
        state = self._store.load(lease, batch)
        return plan(state, batch.deliveries, batch.clock, self._policy, batch.due, now=batch.now)

    def _ring_at(self, deadline: int | None, now: int) -> None:
        """A gap whose wait ends before the sweeper would look gets a bell of its own."""
        if deadline is not None and deadline - now < PERIOD * 1000:
            self._process.bells.sequencer(self._partition, delay=max(0.001, (deadline - now + 1) / 1000))
