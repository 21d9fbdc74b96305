"""Commands that are killed at each named point in turn: done or not done, and the same command again does the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog

from tests.crashpoints import lives
from tests.crashpoints.points import ALL
from tests.crashpoints.scenarios import SCENARIOS, Scenario

EVERY = "CRASH_EVERY" in os.environ
COMMANDS = [scenario for scenario in SCENARIOS if scenario.again]


@pytest.mark.parametrize("scenario", COMMANDS, ids=lambda scenario: scenario.name)
def test_a_command_that_dies_has_done_something_or_nothing_and_the_next_does_the_rest(
    scenario: Scenario, server_url: str, tmp_path: Path
) -> None:
    with structlog.testing.capture_logs():
        assert lives.check(scenario, server_url, tmp_path, every=EVERY) > 0


def test_every_point_is_come_to(server_url: str, tmp_path: Path) -> None:
    """A point that nobody comes to is one at which nobody was seen to die. Those of the front door, of calls that go on
    beside Celery's tasks, and of a broker that is there need processes of their own."""
    reached: set[str] = set()
    with structlog.testing.capture_logs():
        for scenario in SCENARIOS:
            reached |= lives.reached_by(scenario, server_url, tmp_path)
    others = ("intake.", "ringer.", "side_run.", "lingering.", "bell.push.")
    elsewhere = {point for point in ALL if point.startswith(others)}
    assert reached == set(ALL) - elsewhere
