"""What the bench makes of trouble: the figures it has are kept, the reasons are told, and it does not end well."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.bench import __main__ as bench
from tests.bench.arena import Contender, Run
from tests.bench.checker import Verdict
from tests.bench.contenders.handoff import Handoff
from tests.bench.findings import Absence, Findings
from tests.bench.sections import Section
from tests.bench.workload import Workload

EXACT = Verdict(0, 0, 0, 0)
RUN = Run("handoff-async", 1, 2.0, 100, 50.0, 20.0, 1, 1, 3.0, EXACT, finished=True)
GOOD = Section("Good", [("events", 5.0, "/s"), ("    wrong", 0.0, "")])


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """The command takes it over."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, dict[str, Any]]]:
    """Runs the command on contenders and sections of the test's own; what it said, and the figures it wrote."""

    def run(
        sections: dict[str, Callable[..., Section]],
        contenders: tuple[Contender, ...] = (),
        measure: Callable[..., Run] | None = None,
    ) -> tuple[Result, dict[str, Any]]:
        monkeypatch.setattr(bench, "SECTIONS", sections)
        monkeypatch.setattr(bench, "CONTENDERS", contenders)
        monkeypatch.setattr(bench, "measure", measure)
        names = [*(contender.name for contender in contenders), *sections]
        only = [word for name in names for word in ("--only", name)]
        ended = CliRunner().invoke(bench.main, ["--events", "10", "--rounds", "2", "--out", str(tmp_path), *only])
        return ended, json.loads((tmp_path / "figures.json").read_text())

    return run


Invoke = Callable[..., tuple[Result, dict[str, Any]]]


def fail(*_: object) -> Section:
    raise ValueError("no [/] luck\nat all")


def test_section_that_fails_costs_no_other_its_figures(invoke: Invoke) -> None:
    ended, figures = invoke({"memory": fail, "fairness": lambda *_: GOOD})
    assert ended.exit_code == 1
    assert "memory: ValueError: no [/] luck\n" in ended.output
    assert figures["failed"] == {"memory": "ValueError: no [/] luck"}
    assert [section["title"] for section in figures["sections"]] == ["Good"]


def test_what_was_measured_is_kept_when_it_is_interrupted(invoke: Invoke) -> None:
    def interrupt(*_: object) -> Section:
        raise KeyboardInterrupt

    ended, figures = invoke({"memory": lambda *_: GOOD, "fairness": interrupt})
    assert ended.exit_code == 1
    assert [section["title"] for section in figures["sections"]] == ["Good"]


def test_sigterm_closes_what_is_open_and_keeps_what_was_measured(invoke: Invoke) -> None:
    closed: list[bool] = []

    def end(*_: object) -> Section:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            closed.append(True)
        raise AssertionError("it went on")

    ended, figures = invoke({"memory": lambda *_: GOOD, "fairness": end})
    assert (ended.exit_code, closed) == (128 + signal.SIGTERM, [True])
    assert [section["title"] for section in figures["sections"]] == ["Good"]


def test_handoff_that_fails_in_a_round_is_told_and_ends_the_run_badly(invoke: Invoke) -> None:
    contender = Handoff("handoff-async", "Handoff", "handlers", "append")

    def measure(_contender: Contender, _workload: Workload, number: int) -> Run:
        if number == 1:
            raise TimeoutError
        return replace(RUN, round=number)

    ended, figures = invoke({}, (contender,), measure)
    assert ended.exit_code == 1
    assert "round 1 failed: TimeoutError" in ended.output
    assert figures["absent"] == [{"contender": "handoff-async", "reason": "TimeoutError", "round": 1}]
    assert [(run["contender"], run["round"]) for run in figures["runs"]] == [("handoff-async", 2)]
    assert figures["machine"]["cpus"] > 0
    assert figures["machine"]["server"][0].isdigit()


def test_all_well_ends_well(invoke: Invoke) -> None:
    ended, figures = invoke({"memory": lambda *_: GOOD})
    assert ended.exit_code == 0, ended.output
    assert figures["absent"] == figures["runs"] == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Findings(runs=[RUN]), []),
        (Findings(runs=[replace(RUN, contender="celery", finished=False)]), []),
        (Findings(runs=[replace(RUN, finished=False)]), ["handoff-async, round 1: exact, in order, not finished"]),
        (Findings(runs=[replace(RUN, verdict=Verdict(0, 0, 0, 2))]), ["handoff-async, round 1: 2 out of order"]),
        (Findings(absent=[Absence("groupmq", "no Node")]), []),
        (Findings(absent=[Absence("handoff-http", "no door")]), ["handoff-http: no door"]),
        (Findings(sections=[Section("Door", [("    wrong", 3.0, "")])]), ["Door: 3 wrong"]),
        (Findings(sections=[Section("Door", [("    not accepted", 1.0, "")])]), ["Door: 1 not accepted"]),
    ],
)
def test_what_is_a_fault(found: Findings, said: list[str]) -> None:
    """Handoff's own trouble, and figures of a section that were taken of wrong answers; not what others can't do."""
    assert found.faults() == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "a-file/out"), "--out: can't write to"),
        (("--json", "a-file/figures.json"), "--json: can't write"),
        (("--json", "missing/figures.json"), "--json: can't write"),
    ],
)
def test_places_that_cannot_be_written_are_known_before_anything_is_measured(
    options: tuple[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()
    places = (options[0], str(tmp_path / options[1]))
    ended = CliRunner().invoke(bench.main, ["--out", str(tmp_path), *places, "--only", "scale"])
    assert ended.exit_code == 2
    assert f"Invalid value for {said}" in ended.output
    assert "Traceback" not in ended.output
