"""Whatever happens to a circuit, in whatever order: one probe at a time, bounded waits, and a way back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_breaker import LEASE, Line
from worker.core.breaker import Breaker, Closed, Outcomes, Probe, Verdict, Wait, observe

POLICIES = st.builds(
    Breaker,
    ratio=st.floats(0.05, 1),
    calls=st.integers(1, 20),
    window=st.floats(1, 600),
    pause=st.floats(0.1, 10),
    longest=st.floats(10, 600),
    teams=st.integers(1, 10),
)
TEAMS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "outage", "failed", "ask", "ask", "GOOD", "BAD", "NEITHER"]),
        TEAMS,
        st.floats(0, 90),
    ),
    max_size=120,
)


@given(POLICIES, STEPS)
def test_at_most_one_probe_is_out_and_waits_are_bounded(policy: Breaker, steps: list[tuple[str, str, float]]) -> None:
    line, out, ends = Line(policy), "", 0
    for number, (what, team, seconds) in enumerate(steps):
        line.later(seconds)
        if what in ("ok", "outage", "failed"):
            getattr(line, what)(team)
        elif what == "ask":
            answer = line.ask(str(number))
            assert isinstance(answer, Closed) is not line.is_open
            if isinstance(answer, Probe):
                assert not out or line.now >= ends, "two probes at once"
                out, ends = answer.token, line.now + LEASE
            elif isinstance(answer, Wait):
                assert answer.ms is not None
                assert 0 < answer.ms <= max(policy.longest * 1000, LEASE)
        elif out:
            line.conclude(Verdict[what], token=out, team=team)
            out = ""
    # The way back: what is asked for as often as it says lets a probe through, whose success closes it.
    for number in range(3):
        answer = line.ask(f"last {number}")
        if isinstance(answer, Wait):
            line.now += answer.ms or 0
        elif isinstance(answer, Probe):
            line.conclude(Verdict.GOOD, token=answer.token)
    assert line.ask() == Closed()


@given(POLICIES, st.lists(st.tuples(st.integers(0, 30), st.floats(0, 90)), max_size=100))
def test_one_team_whose_jobs_fail_never_opens_it(policy: Breaker, steps: list[tuple[int, float]]) -> None:
    """However few others there are, and however often it fails. (``teams=1`` asks for just that.)"""
    line = Line(policy if policy.teams > 1 else Breaker())
    for good, seconds in steps:
        line.later(seconds)
        line.circuit = observe(
            line.circuit, line.policy, Outcomes(ok=good, failed=3, failing=frozenset({"a"})), line.now
        )
        assert not line.is_open


@given(POLICIES, st.lists(st.tuples(st.integers(1, 3), st.floats(0.25, 90)), max_size=100))
def test_nor_does_one_whose_calls_time_out_while_the_others_calls_end_well(
    policy: Breaker, steps: list[tuple[int, float]]
) -> None:
    """The others are heard of a quarter of a second after they ended, and in any row of its failures there is one."""
    line = Line(Breaker(policy.ratio, max(4, policy.calls), policy.window, teams=max(2, policy.teams)))
    line.ok("b")
    for bad, seconds in steps:
        for _ in range(bad):
            line.outage("a")
        line.later(seconds).ok("b")
        assert not line.is_open
