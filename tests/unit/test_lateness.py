"""The wait at a gap: what is learnt, how fast, how it fades, and within which bounds."""

import math

import pytest

from worker.core.lateness import BUCKETS, FADE_AT, GapWait, Lateness


def learnt(*observations: tuple[int, int]) -> Lateness:
    lateness = Lateness()
    for late_ms, times in observations:
        lateness.observe(late_ms, times)
    return lateness


def test_before_anything_is_known_half_a_second_is_waited() -> None:
    assert Lateness().quantile_ms() == 512


def test_a_hundred_events_in_order_end_that_belief() -> None:
    assert learnt((0, 99)).quantile_ms() == 512
    assert learnt((0, 100)).quantile_ms() == 0


@pytest.mark.parametrize(("late_ms", "wait"), [(1, 2), (2, 4), (3, 4), (500, 512), (512, 1024), (60_000, 65_536)])
def test_the_wait_is_longer_than_the_lateness_that_was_seen(late_ms: int, wait: int) -> None:
    assert learnt((0, 500), (late_ms, 1)).quantile_ms() == wait


def test_one_late_event_in_many_thousands_is_not_waited_for() -> None:
    assert learnt((0, 1500), (900, 1)).quantile_ms() == 0
    assert learnt((0, 900), (900, 1)).quantile_ms() == 1024


def test_lateness_beyond_the_last_bucket_and_below_zero_is_kept_in_bounds() -> None:
    assert learnt((10**9, 1)).quantile_ms() == 1 << (BUCKETS - 1)
    assert learnt((-50, 1000)).quantile_ms() == 0


def test_old_observations_fade() -> None:
    lateness = learnt((0, 1000), (4000, 100))
    assert lateness.quantile_ms() == 4096
    for _ in range(30):
        lateness.observe(0, 1000)
    assert lateness.quantile_ms() == 0
    assert sum(lateness.counts) <= FADE_AT


def test_other_quantiles_can_be_asked_for() -> None:
    lateness = learnt((0, 900), (100, 100))
    assert (lateness.quantile_ms(0.5), lateness.quantile_ms(0.95)) == (0, 128)


def test_what_was_learnt_survives_being_written_down() -> None:
    lateness = learnt((0, 777), (33, 5), (900, 2))
    assert Lateness.restore(lateness.dump()).dump() == lateness.dump()
    assert Lateness.restore(lateness.dump()).quantile_ms() == lateness.quantile_ms()


@pytest.mark.parametrize(
    "counts",
    [None, [], [1.0], [1.0] * (BUCKETS + 1), [-1.0] * BUCKETS, [math.nan] * BUCKETS, [math.inf] * BUCKETS],
)
def test_nonsense_starts_afresh(counts: list[float] | None) -> None:
    assert Lateness.restore(counts) == Lateness()


def test_two_partitions_do_not_share_what_they_learn() -> None:
    learnt((60_000, 50))
    counts = [0.0] * BUCKETS
    Lateness.restore(counts).observe(1)
    assert Lateness().quantile_ms() == 512
    assert counts == [0.0] * BUCKETS


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (GapWait(), 512),
        (GapWait(least_ms=700), 700),
        (GapWait(most_ms=100), 100),
        (GapWait(fixed_ms=0), 0),
        (GapWait(fixed_ms=99_999), 99_999),
        (GapWait(least_ms=900, most_ms=300), 300),
    ],
)
def test_a_learnt_wait_keeps_between_floor_and_cap_and_a_fixed_one_is_itself(wait: GapWait, expected: int) -> None:
    assert wait.of(Lateness()) == expected
