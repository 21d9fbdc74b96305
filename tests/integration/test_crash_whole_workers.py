"""Whole workers are killed: the one that sweeps, at each of its points, and others with their pools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crashpoints.fleet import Plan, running_fleet
from tests.crashpoints.waves import WHOLE, WHOLE_LONG

WAVE = 3
PLANS = WHOLE_LONG if "CRASH_EVERY" in os.environ else WHOLE
WAVES = [PLANS[start : start + WAVE] for start in range(0, len(PLANS), WAVE)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plans", WAVES, ids=lambda plans: plans[0].point)
def test_the_others_go_on_wherever_a_worker_is_killed(plans: Sequence[Plan], tmp_path: Path) -> None:
    """One is left after all deaths. Supervisors would put others in their places, for which nobody has to wait."""
    with running_fleet(tmp_path, plans, workers=len(plans) + 1, children=1) as fleet:
        fleet.run()
        fleet.check()
