"""The model of what a rate takes, and what it is made from."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.bench.capacity import Costs, cores, fit, hottest_share, most_rate, needs, places
from tests.bench.pictures import SCALE, draw
from tests.bench.synthetic import FIRST, Stream, team_of, weights
from worker.core.envelope import read
from worker.runtime.sequencer import MOST_BATCH
from worker.store.keys import partition_of

COSTS = Costs(worker=50.0, server=20.0, writer=25.0, batch=500.0)


def even(partitions: int) -> float:
    return 1 / partitions


def test_batches_grow_with_the_rate() -> None:
    """What came while a partition waited for a process is its next batch, within the bounds."""
    assert COSTS.batch_size(10, 0.05) == 1
    assert COSTS.batch_size(2_000, 0.05) == 100
    assert COSTS.batch_size(50_000, 0.05) == MOST_BATCH


def test_partitions_are_as_many_as_the_busiest_needs() -> None:
    """28,000 events a second are one writer's: a million take 36 of them, so 64, and 28,000 take one."""
    assert COSTS.most(0.7) == pytest.approx(28_000)
    found = needs(COSTS, 1_000_000, even, 0.7)
    assert found is not None
    assert (found.partitions, found.hottest) == (64, 1 / 64)
    one = needs(COSTS, 28_000, even, 0.7)
    assert one is not None
    assert one.partitions == 1


def test_cores_and_shards_follow_from_what_events_cost() -> None:
    """50 and 20 us for each of a million events a second, at 70 %; and what batches cost that are not full."""
    full = needs(Costs(50.0, 20.0, 25.0, 0.0), 1_000_000, even, 0.7)
    assert full is not None
    assert cores(full) == (72, 29)
    found = needs(COSTS, 1_000_000, lambda partitions: max(0.02, 1 / partitions) * (2 if partitions < 512 else 1), 0.7)
    assert found is not None
    assert (found.partitions, round(found.batch)) == (512, 98)
    each = COSTS.batch / found.batch - COSTS.batch / MOST_BATCH
    assert found.cores + found.shards == pytest.approx(1_000_000 * (70 + each) / 1e6 / 0.7)


def test_a_team_that_is_too_large_is_helped_by_no_number_of_partitions() -> None:
    assert needs(COSTS, 1_000_000, lambda partitions: max(0.05, 1 / partitions), 0.7) is None
    assert most_rate(COSTS, 0.05, 0.7) == pytest.approx(28_000 / 0.05)


@pytest.mark.parametrize("partitions", [1, 16, 100])
def test_simulated_partitions_are_the_real_ones(partitions: int) -> None:
    teams = [team_of(index) for index in range(500)]
    sizes = weights(500, 1.1)
    loads: Counter[int] = Counter()
    for team, size in zip(teams, sizes, strict=True):
        loads[partition_of(team, partitions)] += size  # type: ignore[assignment]
    assert hottest_share(places(teams), sizes, partitions) == pytest.approx(max(loads.values()))


def test_line_goes_through_its_points() -> None:
    assert fit([(1.0, 530.0), (8.0, 740.0), (32.0, 1460.0)]) == pytest.approx((500.0, 30.0))


def test_stream_is_what_it_says() -> None:
    """Every team's events from the first on without a gap, one in five of them twice, all readable, none kept."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    stream = Stream(3, 2000, 50, at=noon)
    deliveries = list(stream)
    assert deliveries == list(Stream(3, 2000, 50, at=noon)) != list(Stream(4, 2000, 50, at=noon))
    seqs: dict[str, set[int]] = {}
    for delivery in deliveries:
        seqs.setdefault(delivery.team, set()).add(delivery.seq)
    assert seqs == {team_of(index): set(range(FIRST, FIRST + count)) for index, count in stream.counts.items()}
    assert sum(map(len, seqs.values())) == 2000
    assert 2300 < len(deliveries) < 2500
    event = read(deliveries[0].body, None)
    assert (event.id, event.seq, event.team) == (deliveries[0].event_id, deliveries[0].seq, deliveries[0].team)
    assert event.prospect
    assert len({len(delivery.body) for delivery in deliveries}) < 5


def test_pictures_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    names = ("sequencer", "sequencer_server", "runner", "runner_server", "worker", "ingress", "server", "rate")
    points = [dict.fromkeys(names, 1.0) | {"count": count} for count in (1.0, 1000.0)]
    scale = dict.fromkeys(SCALE, points)
    shares = {"teams": [{"count": 1.0, "share": 1.0, "most": 10.0}], "costs": [{"writer": 25.0}]}
    assert draw(tmp_path, {"teams": points}) == []
    assert [file.name for file in draw(tmp_path, scale)] == ["scale.png"]
    assert [file.name for file in draw(tmp_path, shares)] == ["capacity.png"]
    assert (tmp_path / "capacity.png").read_bytes().startswith(b"\x89PNG")
