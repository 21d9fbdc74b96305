"""What grows is told from what jumps, swings and trembles."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.soak.trends import Point, smoothed, trend

BOUND = 4096.0


def series(value: Callable[[float], float], seconds: int = 300, every: int = 5, noise: float = 0.0) -> list[Point]:
    rng = random.Random(1)
    return [Point(at, value(at) + rng.uniform(-noise, noise)) for at in range(0, seconds, every)]


@pytest.mark.parametrize("noise", [0.0, 500.0, 3000.0])
def test_a_leak_is_found_through_noise(noise: float) -> None:
    found = trend(series(lambda at: 80_000 + 20 * at, noise=noise))
    assert found is not None
    assert found.grows(BOUND)
    assert found.slope == pytest.approx(20, rel=0.3)


@pytest.mark.parametrize(
    "value",
    [
        lambda at: 80_000.0,
        lambda at: 80_000.0 + (20_000 if at == 150 else 0),  # one odd sample
        lambda at: 80_000.0 + (20_000 if at > 150 else 0),  # a heap that was widened once
        lambda at: 80_000.0 + (20_000 if at > 30 else 0),  # a late warm-up
        lambda at: 80_000.0 - 50 * at,
        lambda at: 80_000.0 + 10 * at,  # less than is looked for
        lambda at: 80_000.0 + 20_000 * (1 - 2 ** (-at / 10)),  # towards a bound
    ],
)
def test_what_does_not_go_on_growing_is_no_leak(value: Callable[[float], float]) -> None:
    found = trend(series(value, noise=500.0))
    assert found is not None
    assert not found.grows(BOUND)


def test_a_few_odd_samples_hide_no_leak() -> None:
    found = trend(
        [point._replace(value=0) if n % 9 == 8 else point for n, point in enumerate(series(lambda at: 20 * at))]
    )
    assert found is not None
    assert found.grows(BOUND)


def test_an_hour_of_samples_is_one_like_another() -> None:
    found = trend(series(lambda at: 80_000 + 2 * at, seconds=3600, noise=500))
    assert found is not None
    assert found.grows(BOUND)
    assert found.seconds == 3595


def test_too_few_points_say_nothing() -> None:
    assert trend([Point(0, 1), Point(1, 2), Point(2, 3)]) is None
    assert trend([]) is None
    assert trend([Point(1, 2)] * 10) is None


def test_a_sawtooth_is_flat_once_it_is_smoothed() -> None:
    teeth = series(lambda at: 1000 + 100 * (at % 30), seconds=200)
    level = smoothed(teeth, 30)
    assert level[0].at == 30
    assert {point.value for point in level} == {1000 + 100 * 12.5}
    assert smoothed([], 30) == []
