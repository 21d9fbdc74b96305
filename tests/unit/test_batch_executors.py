"""Calls of many lanes, without a server: how many at once, and what is written when one does not end."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

from tests.runtime_kit import lane, run, spec_of
from worker import AssigneeChange, BatchContext
from worker.runtime.batch_outcomes import settle_batch
from worker.runtime.batches import compose
from worker.store.lanes import Action


def nothing(changes: list[AssigneeChange], ctx: BatchContext) -> None:
    """A batch handler with nothing to do."""


def test_no_more_calls_than_the_concurrency_run_side_by_side() -> None:
    running: list[int] = []
    most: list[int] = []

    async def coroutine(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0)
        running.pop()

    both = threading.Barrier(2, timeout=30)

    def plain(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        running.append(1)
        most.append(len(running))
        both.wait()  # so two do run at once
        running.pop()
        both.wait()

    for function in (coroutine, plain):
        most.clear()
        lanes = [lane(f"t{number}", 1, 2) for number in range(8)]
        run(spec_of(function, batch=2, concurrency=2), *lanes)
        assert max(most) == 2
        assert [active.ended for active in lanes] == ["dd"] * 8


def test_a_call_that_the_pool_ends_leaves_its_jobs_as_they_were() -> None:
    """Not even what the filter declined is written: it need not be at the head of its lane."""
    active = lane("a", 1, 2, 3)
    spec = spec_of(nothing, batch=3, when=lambda change: change.seq != 2)
    call = compose(spec, deque([active]))
    assert call is not None
    assert call.prepare()
    assert call.close() == []
    assert (active.ended, active.failed, active.finished) == ("", None, True)


def test_a_lane_longer_than_a_call_goes_on_in_the_next() -> None:
    spec = spec_of(nothing, batch=2)
    queue = deque([active := lane("a", 1, 2, 3)])
    call = compose(spec, queue)
    assert call is not None
    assert compose(spec, queue) is None, "and not before the first has ended"
    assert call.prepare()
    call.answered(None)
    assert call.close() == [active]


def test_what_was_settled_is_not_settled_again() -> None:
    active = lane("a", 1, 2, 3)
    spec = spec_of(nothing, batch=2)
    assert settle_batch(active, finished=False, spec=spec) is None
    active.ended = "dx"
    held = settle_batch(active, finished=False, spec=spec)
    assert held is not None
    assert (held.ended, held.action, held.leaving) == ("dx", Action.HOLD, 2)
    assert settle_batch(active, finished=False, spec=spec) is None
    active.ended = "dxd"
    last = settle_batch(active, finished=True, spec=spec)
    assert last is not None
    assert (last.ended, last.action) == ("d", Action.RELEASE)


def test_the_keys_are_in_the_order_of_the_changes() -> None:
    seen: list[Any] = []

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        seen.append((ctx.handler, ctx.attempts, ctx.idempotency_keys))

    run(spec_of(handle, batch=9), lane("a:1", 1, attempt=3), lane("b", 1, 2))
    assert seen == [("crm", (3, 1, 1), ("a%3A1:a:1-1:crm", "b:b-1:crm", "b:b-2:crm"))]
