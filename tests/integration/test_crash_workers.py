"""Processes of real workers' pools are killed at each named point in turn, and others go on within seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crashpoints.fleet import Plan, running_fleet
from tests.crashpoints.waves import LONG, SHORT

PLANS = LONG if "CRASH_EVERY" in os.environ else SHORT
WAVE = 10  # points at a time, each in a partition of its own
WAVES = [PLANS[start : start + WAVE] for start in range(0, len(PLANS), WAVE)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plans", WAVES, ids=lambda plans: plans[0].point)
def test_a_pool_goes_on_wherever_one_of_its_processes_is_killed(plans: Sequence[Plan], tmp_path: Path) -> None:
    with running_fleet(tmp_path, plans, workers=2, children=2) as fleet:
        fleet.run()
        fleet.check()
