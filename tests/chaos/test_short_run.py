"""A short run with every process of a small installation, a fault every second or so, and all invariants held."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.chaos import schedule, workload
from tests.chaos.cluster import Setup
from tests.chaos.running import Plan, run

pytestmark = pytest.mark.timeout(600)  # for machines that have other things to do: it takes seconds

SEED = 20261126
SECONDS = 12.0
KINDS = (
    *("kill worker", "kill child", "kill ingress", "kill server", "stop child", "read-only server", "full server"),
    *("cut connections", "half-open connections of one", "lost bells", "doubled bells", "other code"),
)


def test_all_invariants_hold_while_everything_breaks(tmp_path: Path) -> None:
    setup = Setup(slow_workers=0)
    rhythm = schedule.Rhythm(until=SECONDS, first=0.5, least=0.2, most=1.2, together=99, longest=5.0)
    shape = workload.Shape(seconds=SECONDS, rate=20, hang=6.0, hang_for=3.0, exits=0)
    steps = schedule.make(SEED, rhythm, workers=2, ingresses=2, kinds=KINDS)
    assert len(steps) >= 5
    plan = Plan(SEED, workload.make(SEED, shape, started=datetime.now(UTC)), steps, setup)
    verdict = run(plan, tmp_path, print)
    assert verdict.broken == [], [finding for finding in verdict.findings if not finding.held]
    assert len(verdict.history.calls) > 500
