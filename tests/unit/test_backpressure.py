"""When the ingress closes and opens: a pure function."""

from __future__ import annotations

import pytest

from worker.core.backpressure import (
    OPEN,
    SETTLED,
    Bounds,
    Gate,
    Load,
    Reason,
    bounds_of,
    decide,
    describe,
    reached,
    warnings,
)

BOUNDS = Bounds(events=100, size=1000, memory=5000, share=0.5, server=10_000)
LOADS = {
    Reason.EVENTS: lambda share: Load(events=round(100 * share)),
    Reason.BYTES: lambda share: Load(size=round(1000 * share)),
    Reason.MEMORY: lambda share: Load(memory=round(5000 * share)),
}
EACH = pytest.mark.parametrize("reason", Reason)


@EACH
def test_it_closes_at_the_bound_and_not_before(reason: Reason) -> None:
    assert decide(Gate(), LOADS[reason](0.99), BOUNDS, 0) == Gate()
    assert decide(Gate(), LOADS[reason](1.0), BOUNDS, 0) == Gate(reason)
    assert decide(Gate(), LOADS[reason](7.0), BOUNDS, 0) == Gate(reason)


@EACH
def test_it_opens_only_some_way_below_the_bound(reason: Reason) -> None:
    gate = decide(Gate(reason), LOADS[reason](0.99), BOUNDS, 0)
    assert gate.reason is reason
    assert decide(gate, LOADS[reason](OPEN), BOUNDS, 1).reason is reason
    assert decide(gate, LOADS[reason](OPEN - 0.01), BOUNDS, 1) == Gate()


@EACH
def test_what_stays_below_the_bound_opens_it_in_the_end(reason: Reason) -> None:
    """Blocked lanes and remembered ids may never fall to where it would open otherwise."""
    below = LOADS[reason](0.95)
    gate = decide(Gate(reason), below, BOUNDS, 1000)
    assert decide(gate, below, BOUNDS, 1000 + SETTLED - 1).reason is reason
    assert decide(gate, below, BOUNDS, 1000 + SETTLED) == Gate()


@EACH
def test_going_over_the_bound_again_begins_the_wait_anew(reason: Reason) -> None:
    below, over = LOADS[reason](0.95), LOADS[reason](1.0)
    gate = decide(decide(Gate(reason), below, BOUNDS, 0), over, BOUNDS, 20)
    gate = decide(gate, below, BOUNDS, 21)
    assert decide(gate, below, BOUNDS, SETTLED + 1).reason is reason
    assert decide(gate, below, BOUNDS, SETTLED + 21) == Gate()


def test_only_the_bound_that_closed_it_keeps_it_closed() -> None:
    load = Load(events=10, size=950, memory=4900)
    assert decide(Gate(Reason.EVENTS), load, BOUNDS, 0) == Gate()
    assert decide(Gate(), load, BOUNDS, 0) == Gate()


def test_another_bound_takes_over_and_keeps_its_own_time() -> None:
    gate = decide(Gate(Reason.EVENTS, 0), Load(events=95, size=1000), BOUNDS, SETTLED + 1)
    assert gate == Gate(Reason.BYTES)


@EACH
def test_no_bound_is_never_reached_and_one_that_was_taken_away_opens(reason: Reason) -> None:
    assert reached(LOADS[reason](9), Bounds()) is None
    assert decide(Gate(reason), LOADS[reason](9), Bounds(), 0) == Gate()


def test_an_operator_is_warned_of_every_bound_that_is_reached_or_near() -> None:
    assert warnings(Load(89, 899, 4499), BOUNDS) == []
    assert warnings(Load(90, 1000, 4500), BOUNDS) == [
        "deliveries will soon be answered 503: " + describe(Reason.EVENTS, Load(90), BOUNDS),
        "deliveries are answered 503: " + describe(Reason.BYTES, Load(size=1000), BOUNDS),
        "deliveries will soon be answered 503: " + describe(Reason.MEMORY, Load(memory=4500), BOUNDS),
    ]
    assert warnings(Load(90, 1000, 4500), Bounds()) == []


def test_a_server_without_a_bound_gives_none() -> None:
    assert bounds_of(1, 2, 0.85, 0) == Bounds(1, 2, 0, 0.85, 0)
    assert bounds_of(1, 2, 0.85, 1000) == Bounds(1, 2, 850, 0.85, 1000)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.EVENTS, "1,500 accepted deliveries wait, of 1,000 that may (HANDOFF_MAX_BACKLOG)"),
        (
            Reason.BYTES,
            "3.0 MiB of accepted deliveries wait, of 2.0 MiB that may (HANDOFF_MAX_BACKLOG_BYTES)",
        ),
        (
            Reason.MEMORY,
            "the state server uses 9.0 MiB of its 10.0 MiB (maxmemory), and 85% is the bound (HANDOFF_MAX_MEMORY)",
        ),
    ],
)
def test_it_says_in_words_what_is_reached_and_which_setting_is_the_bound(reason: Reason, words: str) -> None:
    mib = 1024 * 1024
    assert describe(reason, Load(1500, 3 * mib, 9 * mib), Bounds(1000, 2 * mib, 1, 0.85, 10 * mib)) == words
