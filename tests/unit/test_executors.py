"""Executors, without a server: order, outcomes, and lanes side by side."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from tests.runtime_kit import KINDS, inline, lane, loop, outcome, print_nothing, run, spec_of, threads
from worker import AssigneeChange, Context, Discard
from worker.core.handlers import HandlerSpec
from worker.runtime.executors import InlineExecutor, LoopExecutor, ThreadExecutor, executor_for


@KINDS
def test_each_kind_of_handler_has_its_executor(made: Callable[..., HandlerSpec]) -> None:
    expected = {inline: InlineExecutor, threads: ThreadExecutor, loop: LoopExecutor}[made]  # type: ignore[index]
    executor = executor_for(made(print_nothing))
    assert type(executor) is expected
    executor.close()


@KINDS
def test_jobs_of_a_lane_run_in_order_and_not_at_once(made: Callable[..., HandlerSpec]) -> None:
    ran: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    inside: set[str] = set()

    def body(change: AssigneeChange, ctx: Context) -> None:
        assert change.team_id not in inside
        inside.add(change.team_id)
        ran[change.team_id].append(change.seq)
        inside.remove(change.team_id)

    lanes = [lane(name, *range(1, 301)) for name in "abc"]
    run(made(body), *lanes)
    assert ran == {name: list(range(1, 301)) for name in "abc"}
    assert [outcome(active) for active in lanes] == [(300, 0, None)] * 3


@KINDS
def test_a_failure_stops_its_lane_and_no_other(made: Callable[..., HandlerSpec]) -> None:
    ran = []

    def body(change: AssigneeChange, ctx: Context) -> None:
        ran.append((change.team_id, change.seq))
        if (change.team_id, change.seq) == ("a", 2):
            raise ValueError("not this one")

    first, second = lane("a", 1, 2, 3), lane("b", 1, 2, 3)
    run(made(body), first, second)
    assert (outcome(first), outcome(second)) == ((1, 0, "ValueError"), (3, 0, None))
    assert ("a", 3) not in ran


@KINDS
def test_discard_is_counted_and_the_lane_goes_on(made: Callable[..., HandlerSpec]) -> None:
    def body(change: AssigneeChange, ctx: Context) -> None:
        if change.seq == 2:
            raise Discard("no need")

    active = lane("a", 1, 2, 3)
    run(made(body), active)
    assert outcome(active) == (2, 1, None)


@KINDS
def test_when_is_asked_and_false_discards(made: Callable[..., HandlerSpec]) -> None:
    ran = []
    active = lane("a", 1, 2, 3)
    run(made(lambda change, ctx: ran.append(change.seq), when=lambda change: change.seq != 2), active)
    assert (ran, outcome(active)) == ([1, 3], (2, 1, None))


@KINDS
def test_a_filter_that_raises_is_a_failure_of_its_job(made: Callable[..., HandlerSpec]) -> None:
    active = lane("a", 1, 2)
    run(made(print_nothing, when=lambda change: change.nothing_of_the_kind), active)
    assert outcome(active) == (0, 0, "AttributeError")


@KINDS
@pytest.mark.parametrize(
    "error", [SystemExit(3), MemoryError(), RecursionError(), StopIteration(), StopAsyncIteration()]
)
def test_whatever_is_raised_ends_the_job_and_not_the_process(
    made: Callable[..., HandlerSpec], error: BaseException
) -> None:
    def body(change: AssigneeChange, ctx: Context) -> None:
        raise error

    active = lane("a", 1, 2)
    run(made(body), active)
    assert outcome(active)[:2] == (0, 0)
    assert active.failed is not None


@KINDS
def test_a_lane_that_is_told_to_stop_starts_nothing_more(made: Callable[..., HandlerSpec]) -> None:
    active = lane("a", 1, 2, 3)

    def body(change: AssigneeChange, ctx: Context) -> None:
        active.stop = change.seq == 2

    run(made(body), active)
    assert (outcome(active), active.touched) == ((2, 0, None), True)
    untouched = lane("b", 1)
    untouched.stop = True
    run(made(body), untouched)
    assert (outcome(untouched), untouched.touched) == ((0, 0, None), False)


@KINDS
def test_the_attempt_is_the_claims(made: Callable[..., HandlerSpec]) -> None:
    seen = []
    run(
        made(lambda change, ctx: seen.append((ctx.attempt, ctx.idempotency_key))), lane("a", 7, attempt=3), lane("b", 1)
    )
    assert sorted(seen) == [(1, "b:b-1:crm"), (3, "a:a-7:crm")]


def test_lanes_of_an_async_handler_run_side_by_side() -> None:
    meeting = asyncio.Barrier(3)

    async def handler(change: AssigneeChange, ctx: Context) -> None:
        await meeting.wait()

    lanes = [lane(name, 1) for name in "abc"]
    run(spec_of(handler), *lanes)
    assert [outcome(active) for active in lanes] == [(1, 0, None)] * 3


def test_lanes_of_a_handler_with_concurrency_run_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=10)
    lanes = [lane(name, 1) for name in "abc"]
    run(threads(lambda change, ctx: meeting.wait()), *lanes)
    assert [outcome(active) for active in lanes] == [(1, 0, None)] * 3


def test_jobs_are_settled_in_small_groups() -> None:
    """A wait ends when enough has ended, though the lane goes on."""
    active = lane("a", *range(1, 1001))
    executor = executor_for(inline(print_nothing))
    executor.start([active])
    executor.wait()
    assert 0 < active.done < 1000
    assert not active.finished
    while not active.finished:
        executor.wait()
    assert active.done == 1000
    assert time.monotonic() > active.started
