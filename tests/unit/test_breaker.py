"""When a circuit opens, whom it lets through, when it closes: tables of cases, with a clock that the test moves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import pytest

from worker.core.breaker import (
    Admission,
    Breaker,
    Circuit,
    Closed,
    Outcomes,
    Probe,
    Verdict,
    Wait,
    admit,
    concluded,
    lane_ms,
    mark,
    observe,
    renewed,
)

LEASE = 4000


@dataclass
class Line:
    """A circuit in time. ``now`` is ms; each step is a little later than the one before."""

    policy: Breaker = field(default_factory=Breaker)
    circuit: Circuit = field(default_factory=Circuit)
    now: int = 1_800_000_000_000

    @property
    def is_open(self) -> bool:
        return bool(self.circuit.opened)

    def later(self, seconds: float) -> Line:
        self.now += int(seconds * 1000)
        return self

    def ok(self, team: str = "fine", count: int = 1) -> None:
        self.circuit = observe(self.circuit, self.policy, Outcomes(ok=count, fine=frozenset({team})), self.now)

    def outage(self, team: str = "a") -> None:
        told = Outcomes(outage=1, row=1, failing=frozenset({team}), error="ConnectError")
        self.circuit = observe(self.circuit, self.policy, told, self.now)

    def failed(self, team: str = "a") -> None:
        told = Outcomes(failed=1, failing=frozenset({team}), error="KeyError")
        self.circuit = observe(self.circuit, self.policy, told, self.now)

    def ask(self, token: str = "t") -> Admission:
        self.circuit, admission = admit(self.circuit, self.now, token=token, lease_ms=LEASE)
        return admission

    def conclude(self, verdict: Verdict, token: str = "t", team: str = "a") -> None:
        self.circuit = concluded(
            self.circuit, self.policy, verdict, self.now, token=token, team=team, error="ConnectError"
        )

    def opened(self, *teams: str) -> Line:
        for at in range(5):
            self.later(0.5).outage((teams or ("a",))[at % len(teams or ("a",))])
        assert self.is_open
        return self


def run(line: Line, story: str) -> bool:
    """Plays a story of words "what:team seconds later" and says whether the circuit is open in the end."""
    for word in story.split():
        what, _, rest = word.partition(":")
        team, _, seconds = rest.partition("+")
        line.later(float(seconds or 0.3))
        getattr(line, what)(team or "a")
    return line.is_open


STORIES = [
    ("a far side that is down, with work of one team", "outage:a " * 5, True),
    ("one failure too few", "outage:a " * 4, False),
    ("with minutes between, by a time limit", "outage:a+150 " * 5, True),
    ("a success between ends the row", "outage:a outage:a outage:a ok:b outage:a outage:a", False),
    ("of a job that others do not share", "outage:a ok:b " * 50, False),
    ("a team whose every call fails, beside others", "outage:a outage:a ok:b " * 30, False),
    ("a team that alone has work, and fails by itself", "failed:a " * 200, False),
    ("four teams that fail by themselves", "failed:a failed:b failed:c failed:d " * 50, False),
    ("five teams that fail by themselves", "failed:a failed:b failed:c failed:d failed:e", True),
    ("five of many", "failed:a failed:b failed:c failed:d failed:e " + "ok:x " * 6, True),
    ("five of many, who were told of first", "ok:x " * 6 + "failed:a failed:b failed:c failed:d failed:e", False),
    ("five teams' failures in as many minutes", "failed:a+65 failed:b+65 failed:c+65 failed:d+65 failed:e+65", False),
    ("a far side that loses every other call of one team", "outage:a outage:a ok:a " * 3, True),
    ("that loses every fourth", "outage:a ok:a ok:a ok:a " * 30, False),
    ("all at once, of one team: others may not have been heard of yet", "outage:a+0 " * 20, False),
    ("all at once, of many", "".join(f"outage:{team}+0 " for team in "abcdef"), True),
    ("a mixture of both kinds, of five teams", "outage:a failed:b failed:c outage:d failed:e", True),
]


@pytest.mark.parametrize(("story", "opens"), [pytest.param(s, o, id=name) for name, s, o in STORIES])
def test_what_opens_it(story: str, opens: bool) -> None:
    assert run(Line(), story) is opens


def test_an_open_one_lets_nobody_through_until_its_pause_is_over_and_then_one() -> None:
    line = Line().opened("a", "b")
    assert line.ask() == Wait(5000)
    assert line.later(4.9).ask() == Wait(100)
    assert line.later(0.1).ask("first") == Probe("first")
    assert line.ask("second") == Wait(LEASE)
    assert line.later(3.9).ask("second") == Wait(100)


def test_a_success_of_the_probe_closes_it() -> None:
    line = Line().opened("a", "b").later(5)
    line.ask()
    line.conclude(Verdict.GOOD)
    assert line.ask() == Closed()


def test_the_pause_doubles_up_to_the_longest() -> None:
    line, pauses = Line().opened("a", "b"), []
    for _ in range(8):
        answer = line.ask()
        assert isinstance(answer, Wait)
        assert answer.ms is not None
        pauses.append(answer.ms // 1000)
        line.later(answer.ms / 1000).ask()
        line.conclude(Verdict.BAD)
    assert pauses == [5, 10, 20, 40, 60, 60, 60, 60]


def test_while_one_team_has_failed_others_wait_for_the_shortest_pause_and_its_own_lane_for_longer() -> None:
    """Whether it is that team's fault, nobody can know before another's job was tried."""
    line = Line().opened("a")
    away = []
    for _ in range(5):
        assert line.ask() == Wait(5000)
        line.later(5).ask()
        line.conclude(Verdict.BAD, team="a")
        away.append(lane_ms(line.circuit, line.policy) // 1000)
    assert away == [10, 20, 40, 60, 60]
    line.later(5).ask()
    line.conclude(Verdict.BAD, team="b")
    assert line.ask() == Wait(60_000)


def test_a_probe_that_is_never_heard_of_again_gives_way_when_its_lease_ends() -> None:
    line = Line().opened().later(5)
    assert line.ask("lost") == Probe("lost")
    assert line.later(LEASE / 1000).ask("next") == Probe("next")
    line.conclude(Verdict.BAD, token="lost")
    assert line.circuit.probe == "next"
    line.conclude(Verdict.NEITHER, token="lost")
    assert line.ask("third") == Wait(LEASE)
    line.conclude(Verdict.GOOD, token="lost")  # that late it still proves that the far side is there
    assert not line.is_open


def test_a_long_probe_keeps_its_place_while_it_is_renewed() -> None:
    line = Line().opened().later(5)
    line.ask("mine")
    for _ in range(100):
        line.later(1)
        line.circuit = renewed(line.circuit, line.now, token="mine", lease_ms=LEASE)
        assert line.ask("other") == Wait(LEASE)
    assert renewed(line.circuit, line.now + 99, token="other", lease_ms=LEASE) is line.circuit


def test_a_probe_that_proves_nothing_makes_room_for_the_next_at_once() -> None:
    line = Line().opened().later(5)
    line.ask("one")
    line.conclude(Verdict.NEITHER, token="one")
    assert line.ask("two") == Probe("two")


def test_calls_that_began_before_have_no_say_in_an_open_one() -> None:
    line = Line().opened()
    before = line.circuit
    line.ok()
    line.outage()
    assert line.circuit is before


def test_one_that_opens_again_soon_goes_on_with_the_pause_it_had_and_later_begins_anew() -> None:
    for seconds, wait in ((1, 20_000), (61, 5000)):
        line = Line().opened("a", "b")
        for verdict in (Verdict.BAD, Verdict.BAD, Verdict.GOOD):
            line.later(60).ask()
            line.conclude(verdict)
        line.later(seconds).opened("a", "b")
        assert line.ask() == Wait(wait)


def test_it_is_quiet_when_there_is_nothing_to_compare_successes_with() -> None:
    line = Line()
    assert line.circuit.quiet(line.policy, line.now)
    line.outage()
    assert not line.circuit.quiet(line.policy, line.now)
    line.later(1).ok()
    assert not line.circuit.quiet(line.policy, line.now)
    assert line.circuit.quiet(line.policy, line.now + 61_000)
    line.failed()
    assert not line.circuit.quiet(line.policy, line.now)


def test_a_lone_failure_of_long_ago_is_in_mind_until_something_ends_well() -> None:
    line = Line()
    line.outage()
    assert not line.later(3600).circuit.quiet(line.policy, line.now)
    line.ok()
    assert line.circuit.quiet(line.policy, line.now)


def test_it_stays_small_whatever_happens() -> None:
    line = Line(replace(Breaker(), calls=1_000_000))
    for at in range(2000):
        line.later(0.5).failed(mark(str(at)))
        line.ok(mark(str(-at)))
    assert len(line.circuit.buckets) <= 13
    assert all(len(bucket.failing) + len(bucket.fine) <= 128 for bucket in line.circuit.buckets)


@pytest.mark.parametrize(
    ("text", "breaker"),
    [
        ("off", None),
        (" OFF ", None),
        ("on", Breaker()),
        ("calls=3", Breaker(calls=3)),
        ("ratio=0.9 calls=20 window=2m pause=500ms longest=1h teams=2", Breaker(0.9, 20, 120, 0.5, 3600, 2)),
        ("pause=1, longest=2.5", Breaker(pause=1, longest=2.5)),
        (str(Breaker(0.9, 20, 120, 0.5, 3600, 2)), Breaker(0.9, 20, 120, 0.5, 3600, 2)),
    ],
)
def test_a_breaker_as_text(text: str, breaker: Breaker | None) -> None:
    assert Breaker.parse(text) == breaker


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be off, on, or"),
        ("never", "must be off, on, or values such as ratio=0.5 calls=5"),
        ("off calls=3", "must be off, on, or"),
        ("calls=3 calls=4", "must be off, on, or"),
        ("problem=1", "must be off, on, or"),
        ("calls=many", "calls must be a number"),
        ("calls=5s", "calls must be a number"),
        ("ratio=5s", "ratio must be a number"),
        ("pause=5d", "pause must be a duration such as"),
        ("window=", "window must be a duration such as"),
        ("ratio=2", "ratio must be over 0 and at most 1"),
        ("ratio=nan", "ratio must be over 0 and at most 1"),
        ("calls=0", "calls must be a whole number from 1"),
        ("teams=51", "teams must be a whole number from 1 to 50"),
        ("window=0.5s", "window must be from 1 to 3600 seconds"),
        ("pause=2m", "pause must be from 0.1 seconds to longest"),
        ("longest=inf", "pause must be from 0.1 seconds to longest"),
    ],
)
def test_a_text_that_is_none_is_told_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        Breaker.parse(text)
