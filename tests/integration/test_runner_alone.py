"""A job that is tried with no other of its handler beside it, and bells that come to its process meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import structlog

from tests.runtime_kit import NotedBells, process_of, spec_of
from tests.store_kit import Partition, change
from worker import AssigneeChange, Context
from worker.core.handlers import HandlerSpec
from worker.runtime.claiming import PASS_ON
from worker.runtime.process import Process
from worker.runtime.runner import Runner

DEADLINE = 20.0


@dataclass
class Hanging:
    """A process in which a job, whose process died twice, is under way and does not end before it is told to."""

    partition: Partition
    begun: threading.Event = field(default_factory=threading.Event)
    ends: threading.Event = field(default_factory=threading.Event)
    process: Process = field(init=False)
    bells: NotedBells = field(init=False)
    spec: HandlerSpec = field(init=False)

    def __post_init__(self) -> None:
        async def hangs(change: AssigneeChange, ctx: Context) -> None:
            self.begun.set()
            await asyncio.to_thread(self.ends.wait, DEADLINE)

        self.spec = spec_of(hangs, concurrency=8, attempts=9, timeout=DEADLINE)
        self.process, self.bells = process_of(self.partition, self.spec)
        self.partition.sequence(change("a", 1))
        for _ in range(2):
            assert self.partition.lanes().claim(lanes=1, jobs=1, per_lane=1).lanes
            self.partition.expire_claims()
        self.answer_a_bell()
        assert self.begun.wait(DEADLINE)
        self.bells.rung.clear()

    def answer_a_bell(self) -> None:
        self.process.side_runs.start(("crm", 1), lambda: Runner(self.process, self.spec, 1))


@pytest.fixture
def hanging(partition: Partition) -> Iterator[Hanging]:
    with structlog.testing.capture_logs():
        found = Hanging(partition)
        try:
            yield found
        finally:
            found.ends.set()
            found.process.side_runs.wait(DEADLINE)


def test_a_bell_for_its_partition_is_passed_on_to_other_processes(hanging: Hanging) -> None:
    hanging.answer_a_bell()
    assert ("crm", 1, PASS_ON) in hanging.bells.rung


def test_a_bell_for_another_partition_of_its_handler_is_passed_on_too(hanging: Hanging) -> None:
    Runner(hanging.process, hanging.spec, 2).run()
    assert ("crm", 2, PASS_ON) in hanging.bells.rung
