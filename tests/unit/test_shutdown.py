"""The end of a process, step by step: who is told what, when, and what becomes of calls of every kind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import until
from tests.runtime_kit import lane, spec_of
from worker import Context, Event
from worker.core.handlers import HandlerSpec
from worker.core.liveness import EXIT_DEAF
from worker.runtime import shutdown
from worker.runtime.batch_executors import BatchExecutor, batch_executor_for
from worker.runtime.calls import ActiveLane
from worker.runtime.executors import Executor, executor_for
from worker.runtime.keeper import Held, Keeper
from worker.runtime.outcomes import settlement_of
from worker.runtime.shutdown import Shutdown
from worker.store.lanes import Action


class Steps:
    """Notes what it is told, and when."""

    def __init__(self, *, failing: bool = False) -> None:
        self.told: list[str] = []
        self._failing = failing
        self.all = threading.Event()

    def _note(self, step: str) -> None:
        self.told.append(step)
        if self._failing:
            raise RuntimeError(step)

    def leave(self) -> None:
        self._note("leave")

    def let_go(self) -> None:
        self._note("let go")

    def abandon(self) -> bool:
        self.all.set()
        self._note("abandon")
        return True


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A notice of the test's own, no patience, and exits that are only noted."""
    codes: list[int] = []
    monkeypatch.setattr(shutdown, "_notice", None)
    monkeypatch.setattr(shutdown, "PATIENCE", 0.0)
    monkeypatch.setattr(shutdown, "END", 0.0)
    monkeypatch.setattr(shutdown, "MAIN_LATER", 0.0)
    monkeypatch.setattr(os, "_exit", codes.append)
    shutdown.open_notice()
    notice = shutdown._notice
    assert notice is not None
    with notice[0], notice[1]:
        yield codes


def test_every_step_is_taken_in_order_and_the_process_ends(ends: list[int]) -> None:
    steps, found = Steps(), Shutdown(grace=0.0)
    found.watch(steps)
    assert (found.asked, steps.told) == (False, [])
    shutdown.announce()
    until(lambda: ends, "it ends")
    assert (steps.told, ends) == (["leave", "let go", "abandon"], [0])


def test_a_worker_that_leaves_because_it_is_deaf_says_so_even_if_it_is_ended_by_force(
    monkeypatch: pytest.MonkeyPatch, ends: list[int]
) -> None:
    """With 0, a supervisor that restarts what failed would leave it ended."""
    monkeypatch.setattr(shutdown, "_code", 0)
    shutdown.end_with(EXIT_DEAF)
    Shutdown().watch(Steps())
    shutdown.announce()
    until(lambda: ends, "it ends")
    assert ends == [EXIT_DEAF]


def test_a_step_that_fails_keeps_no_other_from_being_taken(ends: list[int]) -> None:
    steps = Steps(failing=True)
    Shutdown().watch(steps)
    shutdown.announce()
    until(lambda: ends, "it ends")
    assert steps.told == ["leave", "let go", "abandon"]


def test_whoever_looks_later_finds_the_notice_too(ends: list[int]) -> None:
    """A process that the pool forks after the signal."""
    shutdown.announce()
    for number in (1, 2):
        found = Shutdown()
        found.watch(Steps())
        until(lambda number=number: len(ends) == number, "it ends")  # type: ignore[misc]


def test_a_second_signal_ends_the_wait(ends: list[int]) -> None:
    steps, found = Steps(), Shutdown(grace=3600.0)
    found.watch(steps)
    shutdown.announce()
    until(lambda: found.asked, "it is asked")
    assert not found.over
    shutdown.announce(cold=True)
    until(lambda: ends, "it ends")
    assert (found.over, ends) == (True, [1])


def test_a_process_that_inherits_no_notice_is_asked_by_name(monkeypatch: pytest.MonkeyPatch, ends: list[int]) -> None:
    monkeypatch.setattr(shutdown, "_notice", None)
    found = Shutdown()
    found.watch(Steps())
    found.ask()
    until(lambda: ends, "it ends")


def test_to_ask_by_name_changes_nothing_where_there_is_a_notice(ends: list[int]) -> None:
    """A process that the pool replaces lets its calls end, as long as they may take."""
    found = Shutdown()
    found.watch(Steps())
    found.ask()
    shutdown.announce()
    until(lambda: ends, "it ends")
    assert found.asked


# --- calls that are cut off -------------------------------------------------------------------------------------------


def asleep(event: Event, ctx: Context) -> None:
    time.sleep(60)


async def awaiting(event: Event, ctx: Context) -> None:
    await asyncio.sleep(60)


def all_asleep(events: list[Event], ctx: Any) -> None:
    time.sleep(60)


async def all_awaiting(events: list[Event], ctx: Any) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(asleep, on="*"),
        spec_of(awaiting, on="*"),
        spec_of(all_asleep, on="*", batch=5),
        spec_of(all_awaiting, on="*", batch=5),
    ],
    ids=["plain", "coroutine", "plain batch", "coroutine batch"],
)
def test_a_call_that_is_cut_off_stays_and_costs_no_attempt(spec: HandlerSpec) -> None:
    active = lane("a", 1, 2, attempt=3)
    executor: Executor | BatchExecutor = batch_executor_for(spec) if spec.batch else executor_for(spec)
    executor.start([active])

    def cut_off() -> None:
        until(lambda: active.started, "the call has begun")
        executor.cut_off()

    threading.Thread(target=cut_off).start()
    while not active.finished:
        executor.wait()
    executor.close()
    assert (active.cut, active.failed, active.done) == (True, None, 0)
    settled = settlement_of(active, finished=True, spec=spec)
    assert settled is not None
    assert (settled.action, settled.attempts, settled.leaving) == (Action.RETURN, 2, 0)


def test_a_call_is_cut_off_that_begins_at_that_very_moment() -> None:
    executor = executor_for(spec_of(asleep, on="*"))
    active = lane("a", 1)
    executor.start([active])
    executor.cut_off()
    executor.wait()
    assert (active.finished, active.cut) == (True, True)


def test_an_interruption_that_is_late_ends_nothing() -> None:
    """The signal's default would be the process's end, so its handler stays."""
    before = signal.getsignal(signal.SIGALRM)
    try:
        executor = executor_for(spec_of(asleep, on="*"))
        executor.start([])
        executor.cut_off()
        executor.wait()
        os.kill(os.getpid(), signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


# --- lanes ------------------------------------------------------------------------------------------------------------


class Given:
    def __init__(self) -> None:
        self.back: list[str] = []
        self.abandoned: list[str] = []

    def held(self, *lanes: ActiveLane) -> Held:
        made: Any = Held(
            None,  # type: ignore[arg-type]
            "crm",
            5.0,
            parallel=False,
            hand_back=lambda lanes: self.back.extend(lane.claimed.lane for lane in lanes),
            abandon=lambda lanes: self.abandoned.extend(lane.claimed.lane for lane in lanes),
        )
        made.lanes = lanes
        return made


def test_lanes_that_were_not_begun_are_handed_back_at_once_and_none_goes_on_to_its_next_job() -> None:
    running, waiting = lane("running", 1, 2), lane("waiting", 1)
    assert running.begin()
    given = Given()
    keeper = Keeper()
    keeper.add(given.held(running, waiting))
    keeper.leave()
    assert given.back == ["waiting"]
    assert waiting.returned
    assert not running.begin(), "its second job is another worker's"
    keeper.leave()
    assert given.back == ["waiting"], "once is enough"


def test_lanes_whose_calls_go_on_are_abandoned_and_their_late_end_is_not_waited_for() -> None:
    running, ended = lane("running", 1), lane("ended", 1)
    ended.finished = True
    given = Given()
    keeper = Keeper()
    keeper.add(given.held(running, ended))
    assert keeper.abandon()
    assert given.abandoned == ["running"]
    assert (running.lost, ended.lost) == (True, False)
    assert not keeper.abandon(), "once is enough"
