"""One scenario, lived through once to the end, and then again and again by processes that die at each of its points."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.crashpoints.bench import Bench, steady
from tests.crashpoints.dying import Life
from tests.crashpoints.points import DIRECT_WRITE, When
from tests.crashpoints.scenarios import SCENARIOS, Scenario
from tests.crashpoints.snapshot import difference

Place = tuple[str, int]  # a point, and which time it is

_numbers = itertools.count(1)


@dataclass
class Course:
    """How a scenario goes when nobody dies: the state at each point, and at the end of all work."""

    states: dict[Place, dict[str, Any]] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    effects: list[tuple[str, str, int]] = field(default_factory=list)
    unread: list[Place] = field(default_factory=list)

    @property
    def places(self) -> Sequence[Place]:
        return list(self.states)


@contextmanager
def bench_of(scenario: Scenario, url: str, folder: Path) -> Iterator[Bench]:
    bench = Bench(url, f"c{os.getpid()}x{next(_numbers)}", scenario.specs(), folder, scenario.options)
    try:
        yield bench
        for name in bench.eye.scan_iter(match=f"{bench.prefix}:*", count=10_000):
            bench.eye.unlink(name)
    finally:
        bench.close()


def reached_by(scenario: Scenario, url: str, folder: Path) -> set[str]:
    """The points that a scenario comes to."""
    with bench_of(scenario, url, folder) as bench, steady(bench, **scenario.patches):
        scenario.prepare(bench)
        life = Life()
        with life.lived():
            scenario.act(bench)
    return {point for point, _ in life.reached}


def check(scenario: Scenario, url: str, folder: Path, *, every: bool) -> int:
    """A process dies at each point of the scenario in turn; how many did."""
    course = course_of(scenario, url, folder)
    places = course.places if every else chosen(course.places, own_points(scenario, url, folder))
    for place in places:
        die_at(scenario, course, place, url, folder)
    return len(places)


def course_of(scenario: Scenario, url: str, folder: Path) -> Course:
    course = Course()
    with bench_of(scenario, url, folder) as bench, steady(bench, **scenario.patches):
        scenario.prepare(bench)
        course.before = bench.state()
        life = Life(watch=lambda point, number: _note(course, bench, point, number))
        with life.lived():
            scenario.act(bench)
        assert not life.dead
        course.after = bench.state()
        course.states.update(dict.fromkeys(course.unread, course.after))
        bench.go_on()
        bench.balanced()
        course.end, course.effects = bench.state(), bench.effects
    return course


def _note(course: Course, bench: Bench, point: str, number: int) -> None:
    """The state here; that of a write whose answer is never seen is the one after it: that at the next point."""
    state = bench.state()
    for earlier in course.unread:
        course.states[earlier] = state
    course.unread.clear()
    course.states[point, number] = state
    if point.endswith(f".{When.UNREAD}"):
        course.unread.append((point, number))


def die_at(scenario: Scenario, course: Course, place: Place, url: str, folder: Path) -> None:
    """Live up to ``place``, and check what is left there, what the next process makes of it, and what was called."""
    with bench_of(scenario, url, folder) as bench, steady(bench, **scenario.patches):
        scenario.prepare(bench)
        life = Life(death=place)
        with life.lived():
            scenario.act(bench)
        assert life.dead, f"{scenario.name}: nobody came to {place}; they came to {life.reached}"
        left = difference(bench.state(), course.states[place])
        assert not left, f"{scenario.name}, {place}: neither the state before nor the one after\n{left}"
        bench.balanced()
        waiting, made = bench.waiting(), list(bench.effects)
        bench.go_on()
        if scenario.again:
            scenario.act(bench)
            bench.go_on()
        bench.balanced()
        _check_effects(scenario, course, bench, made, waiting, place)
        if scenario.exact:
            end = difference(coarse(bench.state()), coarse(course.end))
            assert not end, f"{scenario.name}, {place}: another end\n{end}"


def _check_effects(
    scenario: Scenario,
    course: Course,
    bench: Bench,
    made: list[tuple[str, str, int]],
    waiting: set[tuple[str, str, int]],
    place: Place,
) -> None:
    """Everything took effect, in order; twice only what the dead had done and not lived to say."""
    later = bench.effects[len(made) :]
    doubled = set(made) & set(later)
    assert doubled <= waiting, f"{scenario.name}, {place}: {doubled - waiting} were settled, and called again"
    assert len(set(later)) == len(later), f"{scenario.name}, {place}: doubled without a death: {later}"
    if scenario.exact:
        assert set(bench.effects) == set(course.effects), f"{scenario.name}, {place}"
    for calls in (made, later):
        for handler, team in {call[:2] for call in calls}:
            mine = [seq for name, whose, seq in calls if (name, whose) == (handler, team)]
            usual = [seq for name, whose, seq in course.effects if (name, whose) == (handler, team)]
            assert not scenario.exact or mine == [seq for seq in usual if seq in mine], f"{scenario.name}, {place}"


def coarse(state: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in the end: all but how many tokens were given, attempts made and actions recorded, and how
    far a replay had come that is finished."""
    return {name: _coarse(_kind(name), value) for name, value in state.items() if not _kind(name).startswith(PASSING)}


PASSING: Final = (
    "bell",
    "lease",
    "replays",
    "trouble",
    "control",
    "rate",
    "turns",
    "parked",
    "actions",
    "sweeper",
    "beats",
    "last",
)


def _kind(name: str) -> str:
    return name.partition(":")[2] if name.startswith("{") else name


def _coarse(kind: str, value: Any) -> Any:
    if kind == "state":
        return {field: text for field, text in value.items() if field not in ("fence", "lateness")}
    if kind == "ends" or kind.startswith("claims:"):
        return [(name, text.split(" ")[0]) for name, text in value]
    if kind == "ledger":
        return [pair for pair in value if not pair[0].startswith("retried:")]
    if kind == "dead":
        return sorted(dict(fields)["job"] for fields, _ in value)
    if kind in ("inbox", "archive", "again"):
        return sorted(map(str, value))
    return value


def chosen(places: Sequence[Place], own: AbstractSet[str]) -> list[Place]:
    """The first time at each of its ``own`` points; of other scripts the first and the last time that an answer is not
    seen; every time of other writes."""
    last = dict(places)
    return [
        (point, number)
        for point, number in places
        if (number == 1 and point in own)
        or point.startswith(f"{DIRECT_WRITE}.")
        or (number in (1, last[point]) and point.startswith("script.") and point.endswith(f".{When.UNREAD}"))
    ]


_homes: dict[str, str] = {}


def own_points(scenario: Scenario, url: str, folder: Path) -> set[str]:
    """The points at which processes die in this scenario, for no scenario before it comes to them."""
    if not _homes:
        for one in SCENARIOS:
            for point in reached_by(one, url, folder):
                _homes.setdefault(point, one.name)
    return {point for point, name in _homes.items() if name == scenario.name}
