"""Two threads of one process settle the same lane at its end: its run's own, and the one that abandons it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import structlog

from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change
from worker import AssigneeChange, Context
from worker.runtime.calls import ActiveLane
from worker.runtime.runner import Runner
from worker.store.lanes import LaneStore, Settlement

DEADLINE = 20.0
CHANCE = 1.0  # seconds that one thread gives the other to come between


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


class Interrupted(Runner):
    """Its thread has looked at a lane when another abandons it, and writes first: the worst time for both."""

    calls: Any
    abandoning: threading.Thread | None = None

    def _settlement_of(self, lane: ActiveLane, **how: Any) -> Settlement | None:
        item = super()._settlement_of(lane, **how)
        if item is None:
            return None
        if threading.current_thread() is self.abandoning:
            self.looked.set()
            self.written.wait(CHANCE)
        elif self.abandoning is None:
            self.looked, self.written = threading.Event(), threading.Event()
            self.abandoning = threading.Thread(target=self._held.abandon)
            self.abandoning.start()
            self.looked.wait(CHANCE)
        return item


def test_a_job_that_was_not_run_is_not_written_down_as_done(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.sequence(*(change("a", seq) for seq in (1, 2, 3)))
    ends, called = threading.Event(), list[int]()

    def second_hangs(change: AssigneeChange, ctx: Context) -> None:
        called.append(change.event.seq)
        if change.event.seq == 2:
            ends.wait(DEADLINE)

    spec = spec_of(second_hangs, concurrency=2, timeout=DEADLINE)
    process, _ = process_of(partition, spec)
    run = Interrupted(process, spec, 1)
    settle = LaneStore.settle

    def noted(store: LaneStore, items: Sequence[Settlement]) -> Mapping[str, bool]:
        answer = settle(store, items)
        if run.abandoning is not None and threading.current_thread() is not run.abandoning:
            run.written.set()
        return answer

    monkeypatch.setattr(LaneStore, "settle", noted)
    run.run()
    assert run.abandoning is not None
    run.abandoning.join(DEADLINE)
    assert called == [1, 2]
    assert partition.seqs_in("crm", "a") == [2, 3]
    assert partition.balanced().handlers["crm"].done == 1
    ends.set()
