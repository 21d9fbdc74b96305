"""Claimed lanes without a server, for executors; and a process with a real server and bells that are only noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.store_kit import Partition, change
from worker import AssigneeChange, Context
from worker.core.changes import Change, ChangeKind
from worker.core.handlers import HandlerSpec, define
from worker.core.jobs import Job
from worker.core.retry import Backoff
from worker.runtime.batch_executors import batch_executor_for
from worker.runtime.calls import ActiveLane
from worker.runtime.executors import Executor, executor_for
from worker.runtime.keeper import Keeper
from worker.runtime.process import Process
from worker.store.lanes import Attempt, ClaimedJob, ClaimedLane

Body = Callable[[AssigneeChange, Context], Any]

AT_ONCE = Backoff(base=0.0, cap=0.0)


def spec_of(function: Callable[..., Any], **options: Any) -> HandlerSpec:
    """``function`` as ``@handler(...)`` would define it, by the name "crm"."""
    return define(function, **{"name": "crm", "queue": "q"} | options)


def claimed(
    name: str, *seqs: int, attempt: int = 0, crashed: bool = False, failed: Sequence[Attempt] = ()
) -> ClaimedLane:
    """A claimed lane whose jobs have these numbers."""
    assigned = Change(ChangeKind.ASSIGNED, None, previous_known=False)
    jobs = [ClaimedJob(Job(f"{seq}-0", False, 1, seq, False, assigned), change(name, seq), None) for seq in seqs]
    return ClaimedLane(name, attempt, crashed, failed, jobs)


def lane(name: str, *seqs: int, attempt: int = 0) -> ActiveLane:
    return ActiveLane(claimed(name, *seqs, attempt=attempt), token=1)


def run(spec: HandlerSpec, *lanes: ActiveLane) -> Executor:
    """Everything through the executor that the handler gets."""
    executor = batch_executor_for(spec) if spec.batch else executor_for(spec)
    executor.start(list(lanes))
    while not all(active.finished for active in lanes):
        executor.wait()
    executor.close()
    return executor


@dataclass
class NotedBells:
    """Rings nothing, remembers everything: (handler or "", partition, delay)."""

    rung: list[tuple[str, int, float]] = field(default_factory=list)
    carried: None = None

    def sequencer(self, partition: int, *, delay: float = 0.0) -> None:
        self.rung.append(("", partition, delay))

    def runner(self, handler: str, queue: str, partition: int, *, delay: float = 0.0) -> None:
        self.rung.append((handler, partition, delay))

    def runners(self, handlers: Iterable[HandlerSpec], partition: int) -> None:
        for spec in handlers:
            self.runner(spec.name, spec.queue, partition)


def process_of(partition: Partition, *specs: HandlerSpec) -> tuple[Process, NotedBells]:
    """What a worker process has, on the partition's client."""
    bells = NotedBells()
    process = Process(
        settings=partition.settings,
        registry={spec.name: spec for spec in specs},
        client=partition.client,
        scripts=partition.scripts,
        bells=bells,  # type: ignore[arg-type]
        keeper=Keeper(),
    )
    return process, bells


def inline(body: Body, **options: Any) -> HandlerSpec:
    return spec_of(body, **options)


def threads(body: Body, **options: Any) -> HandlerSpec:
    return spec_of(body, **{"concurrency": 4} | options)


def loop(body: Body, **options: Any) -> HandlerSpec:
    async def handler(change: AssigneeChange, ctx: Context) -> None:
        body(change, ctx)

    return spec_of(handler, **options)


KINDS = pytest.mark.parametrize("made", [inline, threads, loop])


def outcome(active: Any) -> tuple[int, int, str | None]:
    return active.done, active.discarded, active.failed.error if active.failed else None


def print_nothing(change: AssigneeChange, ctx: Context) -> None:
    """A handler with nothing to do."""
