"""What the tests of sabotages share: a scenario is acted out, and the verdict has to name what was taken out."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.sabotage import SABOTAGES
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import play


def breaks_what_it_should(name: str, folder: Path) -> None:
    """Without the safeguard, its invariants are broken, and none that has nothing to do with it."""
    verdict = play(SCENARIOS[name], folder, sabotage=name)
    sabotage = SABOTAGES[name]
    found = {finding.number: finding.evidence for finding in verdict.findings if not finding.held}
    assert set(sabotage.breaks) <= found.keys(), verdict.findings
    assert found.keys() <= {*sabotage.breaks, *sabotage.perhaps}, found


def holds(name: str, folder: Path) -> None:
    """With all safeguards in place the same scenario breaks nothing."""
    verdict = play(SCENARIOS[name], folder)
    assert verdict.broken == [], [finding for finding in verdict.findings if not finding.held]
