"""Jobs that may have killed processes are tried with no other beside them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime_kit import claimed, print_nothing, spec_of
from worker.runtime.alone import Alone, suspect
from worker.runtime.calls import ActiveLane
from worker.runtime.outcomes import LOST_WORKER
from worker.store.lanes import Attempt

DIED = [Attempt(1, 5, LOST_WORKER, "")]
FAILED = [Attempt(1, 5, "ValueError", "")]


@pytest.mark.parametrize(
    ("attempt", "crashed", "failed", "attempts", "expected"),
    [
        (0, True, [], 11, False),
        (1, True, [], 11, False),
        (2, True, [], 11, True),
        (2, False, DIED, 11, True),  # handed back before it could be tried
        (2, False, FAILED, 11, False),
        (2, False, [], 11, False),
        (1, True, [], 1, True),  # its only attempt
        (1, False, [], 1, False),
    ],
)
def test_who_is_suspected(attempt: int, crashed: bool, failed: Any, attempts: int, expected: bool) -> None:
    lane = claimed("a", 1, attempt=attempt, crashed=crashed, failed=failed)
    assert suspect(lane, spec_of(print_nothing, attempts=attempts)) is expected


class NotedExecutor:
    parallel = True

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, lanes: list[ActiveLane]) -> None:
        self.started += [lane.claimed.lane for lane in lanes]


def of(name: str, *, died: bool) -> ActiveLane:
    return ActiveLane(claimed(name, 1, attempt=2 if died else 0, crashed=died), 1)


def run_of(*lanes: ActiveLane) -> tuple[Alone, NotedExecutor]:
    made: Any = NotedExecutor()
    alone = Alone(spec_of(print_nothing), made)
    alone.start(lanes)
    return alone, made


def test_they_wait_for_the_others_and_for_each_other() -> None:
    a, b, c = of("a", died=False), of("b", died=True), of("c", died=True)
    alone, executor = run_of(a, b, c)
    alone.next([a, b, c], 0)
    assert executor.started == ["a"]
    alone.next([b, c], 1)
    assert executor.started == ["a"], "calls of an earlier run go on"
    alone.next([b, c], 0)
    alone.next([b, c], 0)
    assert executor.started == ["a", "b"]
    alone.next([c], 0)
    assert executor.started == ["a", "b", "c"]


@pytest.mark.parametrize("mark", ["lost", "returned"])
def test_one_that_is_not_ours_any_more_is_forgotten(mark: str) -> None:
    b, c = of("b", died=True), of("c", died=True)
    alone, executor = run_of(b, c)
    setattr(b, mark, True)
    alone.next([c], 0)
    assert executor.started == ["c"]


def test_at_the_end_of_a_slice_they_still_get_their_turn_but_not_in_a_process_that_leaves() -> None:
    a, b = of("a", died=False), of("b", died=True)
    alone, executor = run_of(a, b)
    alone.stop([a, b], at_once=False)
    assert (a.stop, b.stop) == (True, False)
    alone.stop([a, b], at_once=True)
    assert (b.stop, b.finished) == (True, True)
    alone.next([b], 0)
    assert executor.started == ["a"]
