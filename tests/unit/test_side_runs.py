"""Runs beside Celery's task: one at a time for each partition, none missed, places shared, and an orderly end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from worker.runtime.side_runs import SideRuns

DEADLINE = 10.0


@dataclass
class FakeRun:
    """Runs until it is told to end."""

    lanes: int = 3
    running: int = 2
    careful: bool = False
    error: BaseException | None = None
    began: threading.Event = field(default_factory=threading.Event)
    ends: threading.Event = field(default_factory=threading.Event)
    poked: threading.Event = field(default_factory=threading.Event)

    def run(self) -> int:
        self.began.set()
        assert self.ends.wait(DEADLINE)
        if self.error is not None:
            raise self.error
        return 1

    def poke(self) -> None:
        self.poked.set()


def maker(*runs: FakeRun) -> Callable[[], FakeRun]:
    left = list(runs)
    return lambda: left.pop(0)


def test_a_bell_for_a_run_that_is_on_its_way_pokes_it_and_brings_one_more() -> None:
    """Whatever came between its last look and its end is found by the next."""
    side, first, second = SideRuns(), FakeRun(), FakeRun()
    make = maker(first, second)
    side.start(("crm", 1), make)
    assert first.began.wait(DEADLINE)
    side.start(("crm", 1), make)
    side.start(("crm", 1), make)
    assert first.poked.is_set()
    assert not second.began.is_set()
    first.ends.set()
    assert second.began.wait(DEADLINE)
    second.ends.set()
    side.wait(DEADLINE)
    assert side.lanes("crm", besides=9) == 0


def test_partitions_and_handlers_run_side_by_side_and_are_counted_apart() -> None:
    side = SideRuns()
    runs = {key: FakeRun(careful=key[1] == 2) for key in (("crm", 1), ("crm", 2), ("mail", 1))}
    for key, run in runs.items():
        side.start(key, maker(run))
    assert all(run.began.wait(DEADLINE) for run in runs.values())
    assert (side.lanes("crm", besides=1), side.running("crm", besides=1), side.lanes("crm", besides=3)) == (3, 2, 6)
    assert (side.careful("crm", besides=1), side.careful("crm", besides=2)) == (True, False)
    for run in runs.values():
        run.ends.set()
    side.wait(DEADLINE)


def test_who_found_no_place_is_rung_when_another_run_ends() -> None:
    side, run, rung = SideRuns(), FakeRun(), threading.Event()
    side.start(("crm", 1), maker(run))
    assert run.began.wait(DEADLINE)
    side.refuse("crm", 2, rung.set)
    assert not rung.is_set()
    run.ends.set()
    assert rung.wait(DEADLINE)


def test_who_found_no_place_is_rung_at_once_when_nobody_else_is_at_it() -> None:
    rung = threading.Event()
    SideRuns().refuse("crm", 2, rung.set)
    assert rung.is_set()


@pytest.mark.parametrize("error", [ValueError("ours"), SystemExit(0)])
def test_a_run_that_raises_leaves_its_place(error: BaseException) -> None:
    side, run = SideRuns(), FakeRun(error=error)
    side.start(("crm", 1), maker(run))
    run.ends.set()
    side.wait(DEADLINE)
    assert side.lanes("crm", besides=9) == 0


def test_nothing_begins_in_a_process_that_is_to_end() -> None:
    side, first, second = SideRuns(), FakeRun(error=SystemExit(0)), FakeRun()
    make = maker(first, second)
    side.start(("crm", 1), make)
    assert first.began.wait(DEADLINE)
    side.start(("crm", 1), make)
    first.ends.set()
    side.wait(DEADLINE)
    assert not second.began.is_set()
