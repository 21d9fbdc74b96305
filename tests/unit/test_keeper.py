"""The keeper, against lanes in every state that a run can leave them in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest
import structlog

from tests.runtime_kit import lane
from worker.errors import StoreUnavailable
from worker.runtime.calls import ActiveLane
from worker.runtime.keeper import GRACE, SLOW, Held, Keeper


class NotedStore:
    """Answers renewals; ``gone`` are the lanes that it calls lost."""

    def __init__(self, *gone: str) -> None:
        self.gone = gone
        self.renewed: list[list[str]] = []
        self.called = threading.Event()
        self.failing: Exception | None = None

    def renew(self, lanes: Iterable[tuple[int, str]]) -> list[str]:
        self.renewed.append([name for _, name in lanes])
        self.called.set()
        if self.failing is not None:
            raise self.failing
        return [name for name in self.renewed[-1] if name in self.gone]


def held(store: NotedStore, *lanes: ActiveLane, parallel: bool = True) -> Held:
    made: Any = Held(store, "crm", 5.0, parallel=parallel)  # type: ignore[arg-type]
    made.lanes = lanes
    return made


def handing_back(store: NotedStore, *lanes: ActiveLane, parallel: bool = False) -> tuple[Held, list[str]]:
    returned: list[str] = []
    run = held(store, *lanes, parallel=parallel)
    run._hand_back = lambda waiting: returned.extend(lane.claimed.lane for lane in waiting)
    return run, returned


def running(name: str, seconds: float) -> ActiveLane:
    """A lane in the middle of a call."""
    made = lane(name, 1, 2)
    made.started = time.monotonic() - seconds
    return made


def test_lanes_that_are_not_finished_are_renewed() -> None:
    store, ended = NotedStore(), lane("b", 1)
    ended.finished = True
    held(store, lane("a", 1), ended, running("c", 1.0)).renew()
    assert store.renewed == [["a", "c"]]


def test_nothing_to_renew_is_no_command() -> None:
    store = NotedStore()
    held(store).renew()
    assert store.renewed == []


def test_a_lane_that_is_somebody_elses_stops_and_is_not_waited_for() -> None:
    a, b = lane("a", 1), lane("b", 1)
    held(NotedStore("a"), a, b).renew()
    assert [(a.stop, a.lost), (b.stop, b.lost)] == [(True, True), (False, False)]


def test_a_call_within_its_grace_is_kept() -> None:
    store = NotedStore()
    held(store, running("a", 5.0 + GRACE - 1.0)).renew()
    assert store.renewed == [["a"]]


def test_a_call_that_overran_is_given_up_and_others_are_kept() -> None:
    store, hung, fine = NotedStore(), running("a", 5.0 + GRACE + 1.0), running("b", 1.0)
    run = held(store, hung, fine)
    run.renew()
    run.renew()
    assert store.renewed == [["b"], ["b"]]
    assert (hung.lost, hung.stop, fine.lost) == (True, True, False)


def test_lanes_in_line_behind_a_call_that_overran_are_given_up_with_it() -> None:
    """Where lanes run one after another nobody can get past the one that hangs."""
    store, hung, waiting = NotedStore(), running("a", 5.0 + GRACE + 1.0), lane("b", 1)
    held(store, hung, waiting, parallel=False).renew()
    assert (store.renewed, hung.lost, waiting.lost) == ([], True, True)


def test_a_lane_that_should_have_begun_long_ago_is_given_up() -> None:
    """Its event loop does not turn, because a coroutine blocks; others have one that does."""
    never, fresh, resting = lane("a", 1), lane("b", 1), lane("c", 1)
    never.taken -= 5.0 + GRACE + 1.0
    resting.taken -= 3600.0
    resting.touched = True  # between two of its calls
    store = NotedStore()
    held(store, never, fresh, resting).renew()
    assert (store.renewed, never.lost, never.stop) == ([["b", "c"]], True, True)


def test_lanes_that_wait_behind_a_slow_call_are_handed_back_and_started_no_more() -> None:
    store, slow, waiting, begun = NotedStore(), running("a", SLOW + 0.5), lane("b", 1), lane("c", 1, 2)
    slow.touched = begun.touched = True
    run, returned = handing_back(store, slow, waiting, begun)
    run.renew()
    run.renew()
    assert (returned, store.renewed) == (["b"], [["a", "c"], ["a", "c"]])
    assert (waiting.returned, waiting.stop, waiting.begin(), waiting.touched) == (True, True, False, False)
    assert (slow.stop, begun.stop) == (False, False)


def test_lanes_that_wait_behind_a_quick_call_or_in_no_line_are_kept() -> None:
    for seconds, parallel in ((SLOW - 0.5, False), (SLOW + 0.5, True)):
        run, returned = handing_back(NotedStore(), running("a", seconds), lane("b", 1), parallel=parallel)
        run.renew()
        assert returned == []


def test_a_lane_whose_event_loop_is_blocked_by_another_is_handed_back_uncharged() -> None:
    store, never, blocking = NotedStore(), lane("a", 1), running("b", 5.0 + GRACE + 1.0)
    blocking.touched = True
    never.taken -= 5.0 + GRACE + 1.0
    run, returned = handing_back(store, never, blocking, parallel=True)
    run.renew()
    assert (returned, never.returned, never.lost) == (["a"], True, False)
    assert (blocking.lost, blocking.returned, store.renewed) == (True, False, [])


def test_no_lane_is_both_begun_and_handed_back() -> None:
    for _ in range(300):
        made, start = lane("a", 1), threading.Barrier(2)
        begun: list[bool] = []

        def begin(made: ActiveLane = made, start: threading.Barrier = start, begun: list[bool] = begun) -> None:
            start.wait()
            begun.append(made.begin())

        thread = threading.Thread(target=begin)
        thread.start()
        start.wait()
        untouched = made.untouched()
        thread.join()
        assert not (untouched and begun[0])


def test_the_place_where_a_call_hangs_is_reported_once() -> None:
    go_on, inside = threading.Event(), threading.Event()
    hung = running("a", 5.0 + GRACE + 1.0)

    def hang() -> None:
        hung.begin()
        hung.started -= 5.0 + GRACE + 1.0
        inside.set()
        go_on.wait()

    thread = threading.Thread(target=hang)
    thread.start()
    inside.wait()
    run = held(NotedStore(), hung)
    with structlog.testing.capture_logs() as lines:
        run.renew()
        run.renew()
    go_on.set()
    thread.join()
    (line,) = lines
    assert (line["event"], line["handler"], line["lanes"]) == ("handler_overrun", "crm", ["a"])
    assert line["where"] == [f"test_keeper.py:{hang.__code__.co_firstlineno + 4}"]


def test_a_lane_that_waits_in_line_is_kept_while_the_line_moves() -> None:
    store, waiting = NotedStore(), lane("b", 1)
    waiting.taken -= 3600.0
    held(store, running("a", 1.0), waiting, parallel=False).renew()
    assert store.renewed == [["a", "b"]]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a fault of ours")])
def test_a_failed_renewal_is_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The thread outlives whatever happens in it, for all runs of the process depend on it."""
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.001)
    store, keeper = NotedStore(), Keeper()
    store.failing = error
    run = held(store, lane("a", 1))
    with structlog.testing.capture_logs() as lines:
        keeper.add(run)
        for _ in range(3):
            assert store.called.wait(10)
            store.called.clear()
        keeper.remove(run)
    assert {line["event"] for line in lines} == {"renewal_failed"}


def test_a_run_that_is_over_is_not_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.001)
    keeper, over, going = Keeper(), NotedStore(), NotedStore()
    first, second = held(over, lane("a", 1)), held(going, lane("b", 1))
    keeper.add(first)
    keeper.add(second)
    assert over.called.wait(10)
    keeper.remove(first)
    for _ in range(2):  # the first round may have begun before
        going.called.clear()
        assert going.called.wait(10)
    count = len(over.renewed)
    going.called.clear()
    assert going.called.wait(10)
    assert len(over.renewed) == count
    keeper.remove(second)


def test_an_idle_keeper_has_no_thread_and_a_new_run_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each keeper that there ever was would wake up every second."""
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.001)
    keeper = Keeper()
    for _ in range(2):
        store = NotedStore()
        run = held(store, lane("a", 1))
        keeper.add(run)
        assert store.called.wait(10)
        thread = keeper._thread
        assert thread is not None
        keeper.remove(run)
        thread.join(10)
        assert not thread.is_alive()
