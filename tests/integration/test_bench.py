"""The benchmark as a test: that it runs, that it prints what it found, and that its checker can fail."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import processes
from tests.bench.arena import arena_for
from tests.bench.checker import check
from tests.bench.contenders import CONTENDERS
from tests.bench.inside import inside
from tests.bench.synthetic import Stream
from tests.bench.workload import Workload

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("handled", "said"),
    [
        ({"a": [1, 2, 3], "b": [7]}, "exact, in order"),
        ({"a": [1, 3, 2], "b": [7]}, "1 out of order"),
        ({"a": [1, 2, 3]}, "1 missing, 0 repeated, 0 unknown"),
        ({"a": [1, 2, 2, 3], "b": [7]}, "0 missing, 1 repeated, 0 unknown"),
        ({"a": [1, 2, 3], "b": [7, 8]}, "0 missing, 0 repeated, 1 unknown"),
        ({"a": [2, 1, 1], "b": [7], "c": [5, 5]}, "1 missing, 1 repeated, 2 unknown, 2 out of order"),
    ],
)
def test_checker_counts_what_went_wrong(handled: dict[str, list[int]], said: str) -> None:
    """A run that loses, repeats, invents or disorders events does not pass."""
    assert str(check({"a": [1, 2, 3], "b": [7]}, handled)) == said


def test_checker_knows_what_was_marked_late() -> None:
    assert str(check({"a": [1, 2, 3]}, {"a": [1, 3, 2]}, marked=1)) == "exact, in order but for 1 marked late"
    assert str(check({"a": [1, 2, 3]}, {"a": [3, 2, 1]}, marked=1)) == "1 out of order"


def test_work_is_the_same_for_the_same_seed() -> None:
    """Two contenders, and two days, are compared on the same deliveries."""
    started = datetime(2026, 1, 1, tzinfo=UTC)
    work = Workload.w1(7, 300, started=started)
    assert work == Workload.w1(7, 300, started=started)
    assert work != Workload.w1(8, 300, started=started)
    assert sum(map(len, work.expected.values())) == 300 < len(work.deliveries)


def test_cost_is_taken_of_events_that_came_to_all_handlers_in_order() -> None:
    """And neither a call that is missing nor one that is out of order passes."""
    with inside(handlers=2) as system:
        system.know(20)
        stream = Stream(1, 300, 20)
        system.load(stream)
        sequenced, ran = system.sequence(), system.run()
        system.check(stream.counts)
        assert (sequenced.events, ran.events) == (300, 600)
        assert min(sequenced.own, sequenced.wall, ran.own, ran.wall) > 0
        assert ran.commands["evalsha"] > 0
        team, due = next(iter(system.calls["h1"].next.items()))
        system.calls["h1"].next[team] = due - 1
        with pytest.raises(AssertionError, match="never came to h1"):
            system.check(stream.counts)
        system.calls["h0"].wrong = 1
        with pytest.raises(AssertionError, match="out of order"):
            system.check()


def test_cost_can_be_taken_of_a_part_while_others_wait() -> None:
    with inside() as system:
        system.know(5)
        system.load(Stream(1, 400, 5))
        assert 100 <= system.sequence(100).events <= 400
        system.sequence()
        assert 100 <= system.run(100).events <= 400
        system.check()


def test_door_ends_with_a_run_that_fails() -> None:
    """Though nobody came to the verdict: else the next contender would share the cores with it."""
    contender = next(found for found in CONTENDERS if found.name == "handoff-http")
    with arena_for(Workload.w1(7, 50)) as arena:
        contender.preload(arena)
        worker, door = contender.start(arena)
        worker.kill()
        assert door.running
    assert not door.running


def test_bench_runs_and_prints(tmp_path: Path) -> None:
    """Handoff, and the bare process beside it, do a little of the work right, and their figures come out."""
    figures = tmp_path / "figures.json"
    options = ("--rounds", "1", "--seed", "7", "--json", str(figures), "--out", str(tmp_path / "out"))
    command = processes.python("tests.bench", "--events", "300", *options)
    chosen = ("handoff-async", "bare", "whole-road")
    ended = subprocess.run(
        [*command, *(word for name in chosen for word in ("--only", name))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "seed 7" in ended.stdout
    assert ended.stdout.count("exact, in order") == 3
    assert (tmp_path / "out" / "figures.json").read_text() == figures.read_text()
    found = json.loads(figures.read_text())
    runs = found["runs"]
    assert [(run["contender"], run["round"]) for run in runs] == [("handoff-async", 1), ("bare", 1)]
    assert (found["absent"], found["failed"]) == ([], {})
    assert all(run["finished"] and run["rate"] > 0 for run in runs)
