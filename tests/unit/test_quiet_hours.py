"""When quiet hours end, by clocks that jump too."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from worker.quiet_hours import QuietHours, zone_of

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("hours", "now", "left"),
    [
        ("22:00-07:00", "2026-06-01T21:59", 0),
        ("22:00-07:00", "2026-06-01T22:00", 9 * 3600),
        ("22:00-07:00", "2026-06-02T06:59", 60),
        ("22:00-07:00", "2026-06-02T07:00", 0),
        ("9:00 - 17:30", "2026-06-02T12:00", 5.5 * 3600),
        ("9:00-17:30", "2026-06-02T17:30", 0),
        ("22:00-07:00", "2026-03-28T22:00", 8 * 3600),  # an hour is left out
        ("22:00-07:00", "2026-10-24T22:00", 10 * 3600),  # an hour comes twice
        ("22:00-00:00", "2026-06-01T23:00", 3600),
        ("00:00-06:00", "2026-06-01T00:00", 6 * 3600),
    ],
)
def test_they_are_over_when_the_clock_says_so(hours: str, now: str, left: float) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=BERLIN)
    assert QuietHours.parse(hours, BERLIN).left(at) == left


def test_they_are_those_of_the_zone_and_not_of_who_asks() -> None:
    hours = QuietHours.parse("22:00-07:00", ZoneInfo("Asia/Tokyo"))
    assert hours.left(datetime.fromisoformat("2026-06-01T13:30+00:00")) == 8.5 * 3600


def test_in_the_hour_that_comes_twice_there_is_always_an_end_ahead() -> None:
    second = datetime(2026, 10, 25, 2, 20, tzinfo=BERLIN, fold=1)
    assert QuietHours.parse("22:00-02:30", BERLIN).left(second) > 0


@pytest.mark.parametrize(
    "text", ["", "22:00", "22:00-22:00", "25:00-07:00", "22:00-07:60", "a-b", "1-2-3", "22:00+01:00-07"]
)
def test_anything_else_is_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match="two times of day"):
        QuietHours.parse(text, BERLIN)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd"])
def test_a_zone_has_to_be_one(name: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        zone_of(name)
