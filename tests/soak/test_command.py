"""``make soak``: exit code, tables, JSON, and what stays on the disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.chaos.history import Fault, Finding
from tests.soak import __main__ as command
from tests.soak.plan import Plan
from tests.soak.running import Outcome
from tests.soak.verdicts import FamilyVerdict, LedgerVerdict, ProcessVerdict, ServerVerdict, Verdicts

MIB = 1024.0 * 1024


def outcome(folder: Path, grows: Sequence[str] = ()) -> Outcome:
    (folder / "samples.jsonl").write_text("{}\n")
    (folder / "worker-0.log").write_text("ready\n")
    return Outcome(
        verdicts=Verdicts(
            processes=[
                ProcessVerdict("worker", 1, 1, 80 * MIB, 99 * MIB, 99 * MIB, 5000.0, 100.0, grows),
                ProcessVerdict("ingress", 2, 0, 40 * MIB, 40 * MIB, 41 * MIB, 0.0, None),
            ],
            families=[FamilyVerdict("{pNN}:bell:H", "the window", 5, 900, 800, 4096, 0.1)],
            server=ServerVerdict(8 * MIB, 9 * MIB, 9 * MIB, 1.0, 30, 2**20),
            ledger=LedgerVerdict(60, 9000),
        ),
        findings=[Finding(1, "conservation", "9,000 events")],
        faults=[Fault("kill worker", 1.0, 1.0)],
        posts=9500,
        calls=30000,
        seconds=300.0,
        samples=folder / "samples.jsonl",
    )


@pytest.fixture
def asked() -> list[Plan]:
    return []


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: list[Plan]):  # type: ignore[no-untyped-def]
    def with_(*words: str, grows: Sequence[str] = ()) -> Result:
        def run(wanted: Plan, folder: Path, say: object) -> Outcome:
            asked.append(wanted)
            return outcome(folder, grows)

        monkeypatch.setattr(command, "run", run)
        monkeypatch.setattr(command.tempfile, "mkdtemp", lambda **_: str(tmp_path))
        return CliRunner().invoke(command.main, words, catch_exceptions=False)

    return with_


def test_a_run_in_which_nothing_grew_ends_with_0_and_leaves_its_samples(soak, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ran = soak("--seed", "5", "--minutes", "5")
    assert ran.exit_code == 0
    assert "Nothing grew, and all invariants held." in ran.output
    assert "no drift in 60 samples of every partition" in ran.output
    assert "{pNN}:bell:H" in ran.output
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]


def test_a_run_in_which_something_grew_ends_with_1_and_says_how_to_repeat_it(soak, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ran = soak("--seed", "5", "--minutes", "5", "--rate", "70", grows=["worker-0: its memory grows"])
    assert ran.exit_code == 1
    assert "GROWS" in ran.output
    assert "worker-0: its memory grows" in ran.output
    assert "make soak SEED=5 MINUTES=5 RATE=70 SERVER=valkey" in ran.output
    assert (tmp_path / "worker-0.log").exists()


def test_programs_get_json_and_nothing_else(soak) -> None:  # type: ignore[no-untyped-def]
    found = json.loads(soak("--seed", "5", "--json").stdout)
    assert found["held"] is True
    assert found["processes"][1]["finds"] is None
    assert found["faults"] == {"kill worker": 1}


def test_an_hour_is_what_is_run_by_default_and_the_seed_repeats_it(soak, asked: list[Plan]) -> None:  # type: ignore[no-untyped-def]
    soak("--seed", "5")
    soak("--seed", "5")
    soak("--seed", "6")
    first, again, other = asked
    assert first == again != other
    assert first.shape.seconds == 3600
    assert len(first.steps) > 60
    assert {step.target for step in first.steps} <= {0, 1}
