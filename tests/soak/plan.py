"""What a run is: its settings, its load, its faults, and what is called growth in it.

Every bound is so small that a run of five minutes meets it: ids are remembered for a minute, twice, and the archive and
the quarantine hold some hundreds. Two have a life that no setting makes shorter than an hour, teams and owners of
prospects: there is a fixed number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos import schedule
from tests.chaos.cluster import Setup
from tests.chaos.schedule import Step
from tests.chaos.workload import Shape
from tests.soak.verdicts import Limits

PARTITIONS: Final = 8
DEDUP_WINDOW: Final = 60.0  # seconds; no less can be set
SETTINGS: Final = (
    ("GAP_WAIT_MAX", "2s"),
    ("DEDUP_WINDOW", f"{DEDUP_WINDOW:g}s"),
    ("MEMORY", "1h"),
    ("ARCHIVE_EVENTS", "100"),
    ("QUARANTINE_MAX", "10"),
)
SETTLE: Final = 2.5 * DEDUP_WINDOW
"""Seconds until nothing is left of what was there at first. Ids are in sets for half a window each, which live for two
windows after the last was added (store/sequence.py)."""


@dataclass(frozen=True)
class Plan:
    """``period`` is seconds between samples, ``person`` between a person's looks; ``finish`` as in tests/chaos."""

    seed: int
    shape: Shape
    steps: Sequence[Step]
    setup: Setup
    limits: Limits = field(default_factory=Limits)
    period: float = 5.0
    person: float = 4.0
    finish: float = 120.0


def shape(seconds: float, rate: float) -> Shape:
    """Sixty teams. Many bodies that can't be read, to fill the quarantine; handlers that hang or end their process are
    rare, for a process is to live for long."""
    return Shape(seconds=seconds, rate=rate, teams=60, unreadable=0.08, hang=60.0, hang_for=8.0, exits=900.0)


def make(seed: int, *, seconds: float, rate: float, server: str) -> Plan:
    """The usual run."""
    setup = Setup(server=server, partitions=PARTITIONS, settings=SETTINGS)
    limits = Limits(settle=SETTLE, period=DEDUP_WINDOW / 2)
    return Plan(seed, shape(seconds, rate), faults(seed, seconds), setup, limits)


def faults(seed: int, seconds: float) -> list[Step]:
    """All kinds, thinly. Those of processes hit the first worker and the first ingress: the others live on."""
    rhythm = schedule.Rhythm(until=seconds, first=15.0, least=10.0, most=30.0, together=4, calm=30.0)
    return schedule.make(seed, rhythm, workers=1, ingresses=1)
