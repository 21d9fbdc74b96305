"""Time limits and interruptions: calls that take too long, and those that nobody may wait for any more."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

import pytest

from tests.runtime_kit import inline, lane, loop, outcome, print_nothing, run, spec_of, threads
from worker import AssigneeChange, CallTimeout, Context
from worker.core.handlers import HandlerSpec
from worker.runtime.alarm import Alarm
from worker.runtime.executors import executor_for


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
        monkeypatch.setattr("worker.runtime.alarm.ALARM_AGAIN", 0.02)
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

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
    def test_outside_of_the_main_thread_not_even_an_interrupt_ends_the_run(self, error: BaseException) -> None:
        def body(change: AssigneeChange, ctx: Context) -> None:
            if change.seq == 1:
                raise error

        first, second = lane("a", 1), lane("b", 2)
        other = threading.Thread(target=run, args=(inline(body), first, second))
        other.start()
        other.join()
        assert (outcome(first), outcome(second)) == ((0, 0, type(error).__name__), (1, 0, None))

    def test_outside_of_the_main_thread_nobody_waits_for_a_call_that_hangs(self) -> None:
        """It can't be ended; but the thread that the pool gave us goes back to it."""
        hang, waited = threading.Event(), threading.Event()

        def wait() -> None:
            executor = executor_for(inline(lambda change, ctx: (hang.wait(60) and None) or None))
            executor.start([lane("a", 1)])
            executor.wait()
            executor.wait()
            executor.close()
            waited.set()

        threading.Thread(target=wait).start()
        assert waited.wait(10)
        hang.set()

    def test_without_the_main_thread_there_is_no_alarm_and_no_harm(self) -> None:
        active = lane("a", 1)
        other = threading.Thread(target=run, args=(inline(print_nothing, timeout=0.001), active))
        other.start()
        other.join()
        assert outcome(active) == (1, 0, None)
