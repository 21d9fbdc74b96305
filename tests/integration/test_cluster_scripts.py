"""Every script on a real cluster, which itself refuses one whose keys have more than one slot (CROSSSLOT)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest
import structlog

from tests.conftest import CLUSTER
from tests.crashpoints.bench import Bench, steady
from tests.crashpoints.scenarios import SCENARIOS, Scenario
from worker.store import scripts
from worker.store.scripts import Scripts, Word

_run: Final = Scripts.run
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster_url(_url_of: Callable[[str], str]) -> str:
    return _url_of(CLUSTER)


def live_through(scenario: Scenario, url: str, folder: Path) -> set[str]:
    """The scenario from its beginning to the end of all work; the scripts that ran."""
    ran = set()

    def run(self: Scripts, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        answer = _run(self, name, keys, args)
        ran.add(name)
        return answer

    bench = Bench(url, f"k{next(_numbers)}", scenario.specs(), folder, scenario.options)
    try:
        with mock.patch.object(Scripts, "run", run), steady(bench, **scenario.patches):
            scenario.prepare(bench)
            scenario.act(bench)
            bench.go_on()
            bench.balanced()
    finally:
        bench.close()
    return ran


def test_every_script_runs_on_a_cluster(cluster_url: str, tmp_path: Path) -> None:
    """All work that processes are killed at, among it each script: one that is new is in a scenario, or this fails."""
    ran: set[str] = set()
    with structlog.testing.capture_logs():
        for scenario in SCENARIOS:
            ran |= live_through(scenario, cluster_url, tmp_path)
    assert sorted(ran) == sorted(scripts.NAMES)
