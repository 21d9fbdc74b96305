"""A soak of some seconds, with real processes: what leaks is found, what grows is found, and all else holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.schedule import Step
from tests.chaos.stage import SMALL
from tests.soak import plan, report, samples
from tests.soak.plan import Plan
from tests.soak.running import run
from tests.soak.verdicts import MIB, Limits

pytestmark = pytest.mark.timeout(600)  # for machines that have other things to do: it takes seconds

SEED = 20261126
SECONDS = 5.0
RATE = 40.0  # events a second
LEAK = 24 * MIB  # bytes that have to come in the seconds that are judged; what a process takes when it is new is less
STEPS = (
    Step(1.0, "cut connections", 0, 0.0, 1),
    Step(1.5, "lost bells", 0, 0.0, 1),
    Step(2.0, "kill server", 0, 0.3, 1),
    Step(3.0, "kill child", 0, 0.0, 1),
)


LIMITS = Limits(
    young=0.5,
    least=2.0,
    settle=1.0,
    period=0.2,
    process=LEAK,
    server=LEAK,
    used=LEAK,
    # In the first minutes everything fills, and connections are opened.
    files=100,
    clients=100,
    family_entries=2000,
    family_size=MIB,
    family_share=0.0,
)


def test_a_leak_and_a_growing_family_are_found_and_nothing_else(tmp_path: Path) -> None:
    """One handler of the run leaks and lets a family grow. All else holds, though much is broken meanwhile."""
    shape = replace(plan.shape(SECONDS, RATE), hang=0.0, exits=0.0, dropped_for=1.0)
    setup = replace(
        SMALL,
        ingresses=1,
        slow_workers=1,
        partitions=plan.PARTITIONS,
        settings=plan.SETTINGS,
        handlers="tests.soak.leaking",
    )
    outcome = run(Plan(SEED, shape, STEPS, setup, LIMITS, period=0.25, person=0.5), tmp_path, print)
    found = report.document(outcome)
    print(*outcome.verdicts.evidence, sep="\n")

    assert not outcome.held
    assert {one["kind"] for one in found["processes"] if one["evidence"]} == {"slow worker's child"}
    assert {one["name"] for one in found["families"] if one["evidence"]} == {"{pNN}:missed:H"}
    assert not found["server"]["evidence"]
    assert not found["ledger"]["evidence"]
    assert all(one["held"] for one in found["invariants"]), found["invariants"]

    assert len(found["invariants"]) == 7
    assert outcome.calls > 200
    assert found["faults"].keys() >= {step.kind for step in STEPS}
    assert {one["kind"] for one in found["processes"]} >= {"server", "ingress", "worker", "worker's child"}
    peaks = {one["name"]: one["peak"] for one in found["families"]}
    assert all(peaks[name] for name in ("{pNN}:seen:N", "{pNN}:archive", "{pNN}:owner:T:X", "{pNN}:dead"))
    kept = list(samples.read(outcome.samples))
    assert len(kept) > 10
    assert found["ledger"]["released"] == SECONDS * RATE
