"""Workers that die at each named point in turn: the state is that before or that after, and the next one goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog

from tests.crashpoints import lives
from tests.crashpoints.scenarios import SCENARIOS, Scenario

EVERY = "CRASH_EVERY" in os.environ  # make crash: every time that a point is come to, on every kind of server

WORKERS = [scenario for scenario in SCENARIOS if not scenario.again]


@pytest.mark.parametrize("scenario", WORKERS, ids=lambda scenario: scenario.name)
def test_whoever_dies_leaves_the_state_before_or_after_and_the_next_one_goes_on(
    scenario: Scenario, server_url: str, tmp_path: Path
) -> None:
    with structlog.testing.capture_logs():
        assert lives.check(scenario, server_url, tmp_path, every=EVERY) > 0


@pytest.mark.skipif(not EVERY, reason="make crash: scripts are the same on every server, and were tested on one")
@pytest.mark.parametrize("scenario", WORKERS, ids=lambda scenario: scenario.name)
def test_on_every_kind_of_server(scenario: Scenario, any_server_url: str, tmp_path: Path) -> None:
    with structlog.testing.capture_logs():
        lives.check(scenario, any_server_url, tmp_path, every=False)
