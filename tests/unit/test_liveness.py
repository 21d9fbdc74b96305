"""What makes a worker deaf, and what only looks like it: looks two seconds apart, judged one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.liveness import SHARED, STUCK_AFTER, Condition, Look, Watch, suspicious, watched

PERIOD = 2.0
LATE = 5.0
AFTER = 10.0
BASE = Look(
    at=0.0, received={"q": 0}, failures=0, turned_at=0.0, busy=0, places=2, waiting={"q": 1}, in_line=False, sweeps=0
)


def looks(number: int, **of: Any) -> list[Look]:
    """So many looks of a worker whose loop turns and whose sweeper sweeps. What is a function is of the number."""
    made = []
    for at in range(number):
        fields = {"at": at * PERIOD, "turned_at": at * PERIOD, "sweeps": at} | of
        made.append(
            replace(BASE, **{name: of_look(at) if callable(of_look) else of_look for name, of_look in fields.items()})
        )
    return made


def seen(sequence: list[Look]) -> list[Condition]:
    watch, found = Watch(), []
    for look in sequence:
        watch = watched(watch, look, LATE)
        found.append(watch.judge(AFTER))
    return found


def test_what_waits_and_is_not_taken_makes_it_deaf_after_the_time_and_not_before() -> None:
    found = seen(looks(7))
    assert found == [Condition.WORKING, *[Condition.UNHEARD] * 4, Condition.DEAF, Condition.DEAF]


@pytest.mark.parametrize(
    "of",
    [
        pytest.param({"waiting": {"q": 0}}, id="nothing waits"),
        pytest.param({"waiting": {}}, id="it reads no queue"),
        pytest.param({"waiting": None}, id="the broker can't be asked"),
        pytest.param({"waiting": lambda at: {"q": at % 2}}, id="something waits now and then"),
        pytest.param({"received": lambda at: {"q": at}}, id="it receives"),
        pytest.param({"received": lambda at: {"q": at // 4}}, id="it receives now and then"),
        pytest.param({"busy": 2}, id="all places are taken"),
        pytest.param({"busy": 3}, id="more than all"),
        pytest.param({"at": lambda at: at * 6.0}, id="looks come late: it was stopped in between"),
        pytest.param({"at": lambda at: -at * PERIOD}, id="a clock that goes back"),
    ],
)
def test_it_is_not_deaf_when(of: dict[str, Any]) -> None:
    assert Condition.DEAF not in seen(looks(40, **of))


@pytest.mark.parametrize(
    "of",
    [
        pytest.param({"waiting": lambda at: {"q": 1000 - at}}, id="others take from the queue"),
        pytest.param({"failures": lambda at: at}, id="its connection fails again and again"),
    ],
)
def test_it_is_given_longer_when(of: dict[str, Any]) -> None:
    found = seen(looks(40, **of))
    assert found.index(Condition.DEAF) == SHARED * AFTER / PERIOD


def test_a_queue_that_is_heard_does_not_excuse_another() -> None:
    found = seen(looks(7, received=lambda at: {"q": at, "other": 0}, waiting={"q": 5, "other": 1}))
    assert found[-1] is Condition.DEAF


def test_one_call_under_way_is_no_excuse_while_there_is_another_place() -> None:
    assert seen(looks(7, busy=1))[-1] is Condition.DEAF


def test_a_main_loop_that_does_not_turn_is_stuck_whatever_waits() -> None:
    found = seen(looks(20, turned_at=0.0, busy=2, waiting={"q": 0}))
    assert found.index(Condition.STUCK) == STUCK_AFTER / PERIOD


def test_a_main_loop_that_makes_a_call_itself_is_not() -> None:
    assert set(seen(looks(40, turned_at=0.0, busy=1, places=1, in_line=True))) == {Condition.WORKING}


def test_a_sweeper_whose_thread_has_ended_is_told_at_once_and_one_that_hangs_in_time() -> None:
    assert seen(looks(1, sweeps=None, waiting={"q": 0})) == [Condition.UNSWEPT]
    found = seen(looks(20, sweeps=7, waiting={"q": 0}))
    assert found.index(Condition.UNSWEPT) == STUCK_AFTER / PERIOD


def test_switched_off_it_judges_nothing() -> None:
    watch = Watch()
    for look in looks(40, turned_at=0.0, sweeps=None):
        watch = watched(watch, look, LATE)
        assert watch.judge(0) is Condition.WORKING


@pytest.mark.parametrize(
    ("of", "asked"),
    [
        ({"received": {"q": 1}}, False),
        ({"busy": 2}, False),
        ({}, True),
        ({"received": {"q": 1, "other": 0}}, True),
        ({"received": {"q": 1}, "turned_at": 0.0}, True),
        ({"received": {"q": 1}, "sweeps": 0}, True),
    ],
)
def test_the_broker_is_asked_only_where_something_may_be_wrong(of: dict[str, Any], asked: bool) -> None:
    before, after = looks(2)
    assert suspicious(Watch(before), replace(after, **of)) is asked
    assert suspicious(Watch(), before)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans(), st.integers(0, 1)), max_size=40))
def test_no_worker_is_deaf_that_receives_every_few_looks(steps: list[tuple[int, int, bool, int]]) -> None:
    """Whatever else is seen of it."""
    received, made = 0, []
    for at, (waiting, busy, failed, took) in enumerate(steps):
        received += took or at % 4 == 0
        made.append(
            replace(
                BASE,
                at=at * PERIOD,
                turned_at=at * PERIOD,
                sweeps=at,
                received={"q": received},
                failures=at if failed else 0,
                busy=busy,
                waiting={"q": waiting},
            )
        )
    assert Condition.DEAF not in seen(made)
