"""A rolling restart under load: every process in turn, while events flow (`make rolling` is the long version)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.rolling.restarts import roll

pytestmark = pytest.mark.timeout(400)

SEED = 20261126


def test_a_rolling_restart_shows_nobody_anything(tmp_path: Path) -> None:
    """No answer but 202, no reset; every call begun and ended once, in order, on its first attempt; balanced books."""
    found = roll(tmp_path, rounds=1, number=signal.SIGTERM, rate=50, seed=SEED)
    print(f"seed {SEED}\n{found}")
    assert (found.errors, found.missing, found.disorder, found.doubled) == ([], [], [], [])
    assert (found.begun_again, found.charged, found.audit) == ([], [], "")
    assert {code for _, _, code in found.stops} == {0}
    assert found.restarts == 4


def test_kills_in_turn_lose_nothing_and_double_no_more_than_was_in_hand(tmp_path: Path) -> None:
    found = roll(tmp_path, rounds=1, number=signal.SIGKILL, rate=50, seed=SEED)
    print(f"seed {SEED}\n{found}")
    assert (found.missing, found.disorder, found.audit) == ([], [], "")
