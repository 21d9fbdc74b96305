"""Executors, without a server: order, outcomes, time limits, and whatever else a user's function may do."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime_kit import lane, run, spec_of
from worker import AssigneeChange, Context, DeadLetter, Discard, Retry
from worker.core.handlers import HandlerSpec
from worker.core.retry import Failure
from worker.runtime.calls import CallTimeout, Failed, failed
from worker.runtime.executors import InlineExecutor, LoopExecutor, ThreadExecutor, executor_for

Body = Callable[[AssigneeChange, Context], Any]


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


@KINDS
def test_each_kind_of_handler_has_its_executor(made: Callable[..., HandlerSpec]) -> None:
    expected = {inline: InlineExecutor, threads: ThreadExecutor, loop: LoopExecutor}[made]  # type: ignore[index]
    executor = executor_for(made(print_nothing))
    assert type(executor) is expected
    executor.close()


def print_nothing(change: AssigneeChange, ctx: Context) -> None:
    """A handler with nothing to do."""


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


@pytest.mark.parametrize("made", [threads, loop])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
def test_not_even_an_interrupt_ends_a_thread_that_others_need(
    made: Callable[..., HandlerSpec], error: BaseException
) -> None:
    """In a thread, a KeyboardInterrupt comes from the handler's code and from nobody at a keyboard."""

    def body(change: AssigneeChange, ctx: Context) -> None:
        raise error

    active = lane("a", 1)
    run(made(body), active)
    assert outcome(active) == (0, 0, type(error).__name__)
    again = lane("b", 1)
    run(made(print_nothing), again)
    assert outcome(again) == (1, 0, None)


def test_an_interrupt_at_the_keyboard_ends_an_inline_run() -> None:
    def body(change: AssigneeChange, ctx: Context) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(inline(body), lane("a", 1))


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


def test_an_async_call_that_takes_too_long_is_cancelled() -> None:
    cancelled = threading.Event()

    async def handler(change: AssigneeChange, ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    active = lane("a", 1, 2)
    run(spec_of(handler, timeout=0.02), active)
    assert outcome(active) == (0, 0, "CallTimeout")
    assert cancelled.is_set()


def test_a_time_out_of_the_handlers_own_is_not_taken_for_ours() -> None:
    async def handler(change: AssigneeChange, ctx: Context) -> None:
        raise TimeoutError("the far side's")

    active = lane("a", 1)
    run(spec_of(handler, timeout=30.0), active)
    assert outcome(active) == (0, 0, "TimeoutError")


def test_closing_cancels_calls_that_still_run() -> None:
    """They have no lease any more: let go on, they would end after calls of whoever has it now."""
    started, ended = threading.Event(), threading.Event()

    async def handler(change: AssigneeChange, ctx: Context) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    executor = executor_for(spec_of(handler))
    executor.start([lane("a", 1)])
    assert started.wait(10)
    executor.close()
    assert ended.wait(10)


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


def endless() -> None:
    while True:
        signal.pause()


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread")
class TestInterruption:
    """Plain functions in the main thread of a prefork child."""

    def test_a_call_that_takes_too_long_is_interrupted_and_the_next_lane_runs(self) -> None:
        first, second = lane("a", 1, 2), lane("b", 1)
        run(inline(lambda change, ctx: endless() if change.team_id == "a" else None, timeout=0.02), first, second)
        assert (outcome(first), outcome(second)) == ((0, 0, "CallTimeout"), (1, 0, None))

    def test_a_handler_that_catches_everything_once_is_interrupted_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("worker.runtime.executors.ALARM_AGAIN", 0.02)
        caught = []

        def body(change: AssigneeChange, ctx: Context) -> None:
            try:
                endless()
            except Exception as error:
                caught.append(type(error))
            endless()

        active = lane("a", 1)
        run(inline(body, timeout=0.02), active)
        assert (outcome(active), caught) == ((0, 0, "CallTimeout"), [CallTimeout])

    def test_a_filter_has_the_same_limit(self) -> None:
        active = lane("a", 1)
        run(inline(print_nothing, when=lambda change: endless(), timeout=0.02), active)
        assert outcome(active) == (0, 0, "CallTimeout")

    def test_the_timer_and_the_signals_handler_are_as_before(self) -> None:
        before = signal.getsignal(signal.SIGALRM)
        run(inline(print_nothing, timeout=100.0), lane("a", 1))
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    @pytest.mark.parametrize("line", ["before clear", "in clear"])
    def test_a_signal_at_the_last_moment_ends_the_job_once(self, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
        """The function is through, the timer still on: the job failed or it is done, not both."""
        from worker.runtime.executors import Alarm

        clear, late = Alarm.clear, [True]

        def clear_late(alarm: Alarm) -> None:
            if late and alarm._armed:
                late.clear()
                if line == "in clear":
                    alarm._ring(signal.SIGALRM, None)
                try:
                    alarm._ring(signal.SIGALRM, None)
                finally:
                    clear(alarm)
            clear(alarm)

        monkeypatch.setattr(Alarm, "clear", clear_late)
        active = lane("a", 1)
        run(inline(print_nothing), active)
        assert active.done + (active.failed is not None) == 1

    def test_without_the_main_thread_there_is_no_alarm_and_no_harm(self) -> None:
        active = lane("a", 1)
        other = threading.Thread(target=run, args=(inline(print_nothing, timeout=0.001), active))
        other.start()
        other.join()
        assert outcome(active) == (1, 0, None)


@pytest.mark.parametrize("made", [inline, threads])
def test_a_function_that_returns_a_coroutine_is_not_reported_done(made: Callable[..., HandlerSpec]) -> None:
    """An ``async def`` under a plain decorator: nobody would await it, and every change would be lost."""

    async def handler(change: AssigneeChange, ctx: Context) -> None:
        raise AssertionError("never awaited, so never here")

    active = lane("a", 1)

    def undecorated(change: AssigneeChange, ctx: Context) -> object:
        return handler(change, ctx)

    run(made(undecorated), active)
    assert outcome(active) == (0, 0, "TypeError")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


@KINDS
@pytest.mark.parametrize("error", [Unspeakable(), ValueError("half \ud800 a character"), ValueError("x" * 10_000)])
def test_an_error_whose_text_can_not_be_had_or_stored_is_a_failure_like_any_other(
    made: Callable[..., HandlerSpec], error: Exception
) -> None:
    """In a thread it would end the thread, and the runner would wait for it for ever."""

    def body(change: AssigneeChange, ctx: Context) -> None:
        raise error

    active = lane("a", 1)
    run(made(body), active)
    assert active.failed is not None
    assert len(active.failed.text.encode()) <= 1000


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError(), Failure()),
        (Retry(), Failure()),
        (Retry(after=3), Failure(after=3.0)),
        (DeadLetter(), Failure(permanent=True)),
    ],
)
def test_what_an_exception_means(error: Exception, failure: Failure) -> None:
    found = failed(error)
    assert isinstance(found, Failed)
    assert found.failure == failure


def test_a_failure_knows_its_place_in_the_code() -> None:
    active = lane("a", 1)
    run(inline(lambda change, ctx: 1 / 0), active)
    assert active.failed is not None
    assert active.failed.where.startswith("test_executors.py:")


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
