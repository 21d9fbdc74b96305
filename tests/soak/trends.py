"""Does a series grow? Two measures that a few odd samples can't move have to agree, and it has to have grown all along.

A leak goes on: its series is higher in the middle third than in the first, and in the last than in the middle. A heap
that a backlog has widened once is a step, and no leak. The slope is Theil and Sen's: the median of the slopes of all
pairs of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final, NamedTuple

MOST: Final = 150  # points that the slope is taken from: pairs are half the square of it
LEAST: Final = 6  # points: two in each third


class Point(NamedTuple):
    at: float
    value: float


@dataclass(frozen=True)
class Trend:
    """``first``, ``middle`` and ``last`` are the medians of the thirds of ``seconds``; ``slope`` is by the second."""

    first: float
    middle: float
    last: float
    slope: float
    seconds: float

    @property
    def growth(self) -> float:
        """What the slope makes of the whole time."""
        return self.slope * self.seconds

    def grows(self, bound: float) -> bool:
        """Whether it has grown by more than ``bound`` over its time, steadily."""
        steps = (self.middle - self.first, self.last - self.middle)
        return self.growth > bound and sum(steps) > bound / 2 and min(steps) > bound / 8


def trend(points: Sequence[Point]) -> Trend | None:
    """None for too few to say anything."""
    if len(points) < LEAST:
        return None
    begin, end = points[0].at, points[-1].at
    if end <= begin:
        return None
    thirds: list[list[float]] = [[], [], []]
    for point in points:
        thirds[min(2, int(3 * (point.at - begin) / (end - begin)))].append(point.value)
    if not all(thirds):
        return None
    first, middle, last = map(median, thirds)
    return Trend(first, middle, last, slope(points), end - begin)


def slope(points: Sequence[Point]) -> float:
    """Theil and Sen's estimate, of up to ``MOST`` of the points."""
    stride = -(-len(points) // MOST)
    some = points[::stride]
    return median((b.value - a.value) / (b.at - a.at) for a, b in combinations(some, 2) if b.at > a.at)


def smoothed(points: Sequence[Point], period: float) -> list[Point]:
    """Each point as the mean of the ``period`` before it, which takes a sawtooth of that period away; the points of the
    first period are left out."""
    found: list[Point] = []
    start, total = 0, 0.0
    for index, point in enumerate(points):
        total += point.value
        while points[start].at <= point.at - period:
            total -= points[start].value
            start += 1
        if point.at - points[0].at >= period:
            found.append(Point(point.at, total / (index - start + 1)))
    return found
