"""Any work, any number of deaths at any points of it, one after another: nothing is lost, doubled or out of order.

Where the exhaustive tests have one death in a work of their own choosing, here chance has both: a process dies, the
next one dies while it goes on with what is left, and so forth.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import servers
from tests.crashpoints.bench import PARTITION, Bench, steady
from tests.crashpoints.dying import Life
from tests.crashpoints.scenarios import plain
from tests.store_kit import change
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer

TEAMS = ("a", "b", "c")
EXAMPLES = 300 if "CRASH_EVERY" in os.environ else 25

Effect = tuple[str, str, int]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with servers.running("valkey") as found:
        yield found


works = st.lists(st.tuples(st.sampled_from(TEAMS), st.integers(1, 6)), min_size=1, max_size=12)
# How many points each process comes to before it dies: a work of this size has some hundred.
deaths = st.lists(st.integers(1, 120), min_size=1, max_size=4)


class Mortal(Life):
    """Dies at the so-manieth point that it comes to, whichever that is."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self._left = points

    def arrive(self, point: str, args: tuple[object, ...]) -> bool:
        super().arrive(point, args)
        self._left -= 1
        return self._left == 0


@pytest.mark.timeout(300)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(works, deaths)
def test_nothing_is_lost_doubled_or_out_of_order(
    url: str, tmp_path_factory: pytest.TempPathFactory, work: list[tuple[str, int]], deaths: list[int]
) -> None:
    whole, _ = _lived(url, tmp_path_factory, work, [])
    effects, explained = _lived(url, tmp_path_factory, work, deaths)
    assert set(effects) == set(whole)
    for call in whole:
        assert effects.count(call) == 1 or call in explained, f"{call} was settled, and called again"
    for lane in itertools.product(("crm", "mail"), TEAMS):
        firsts = list(dict.fromkeys(call for call in effects if call[:2] == lane))
        assert firsts == [call for call in whole if call[:2] == lane]


def _lived(
    url: str, factory: pytest.TempPathFactory, work: list[tuple[str, int]], deaths: list[int]
) -> tuple[list[Effect], set[Effect]]:
    """What took effect, in order; and what of it may have twice, for whoever did it died before it could say so."""
    specs = [plain("crm"), plain("mail", on=("*",))]
    bench = Bench(url, f"p{next(_numbers)}", specs, factory.getbasetemp(), {"gap_wait": 0.0})
    explained: set[Effect] = set()
    with structlog.testing.capture_logs(), steady(bench):
        bench.partition.append(*(change(team, seq) for team, seq in work))  # doubles among them, and gaps
        for points in deaths:
            made = len(bench.effects)
            with Mortal(points).lived():
                _live(bench)
            explained |= set(bench.effects[made:]) & bench.waiting()
            bench.balanced()
            bench.pass_by()
        bench.go_on()
        bench.balanced()
    bench.close()
    return bench.effects, explained


def _live(bench: Bench) -> None:
    process = bench.process()
    Sequencer(process, PARTITION).run()
    for spec in bench.specs:
        Runner(process, spec, PARTITION).run()
