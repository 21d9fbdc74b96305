"""Verdicts on made-up samples: leaks, restarts, bounds, what is left over, and drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.soak import families, verdicts
from tests.soak.families import Bound
from tests.soak.plan import SETTINGS
from tests.soak.samples import FamilySample, ProcessSample, Sample, ServerSample
from tests.soak.verdicts import MIB, FamilyVerdict, Limits, ProcessVerdict
from worker.settings import Settings

LIMITS = Limits()
KB = 1024


def run(make: Callable[[float], Sample], seconds: int = 300) -> list[Sample]:
    return [make(float(at)) for at in range(0, seconds, 5)]


def process(rss: float, *, pid: int = 7, born: float = 1.0, files: int = 20, threads: int = 5) -> ProcessSample:
    return ProcessSample("worker", "worker-0", pid, born, int(rss), files, threads)


def one_kind(make: Callable[[float], Sequence[ProcessSample]], seconds: int = 300) -> ProcessVerdict:
    (found,) = verdicts.processes(run(lambda at: Sample(at, make(at)), seconds), LIMITS)
    return found


def test_a_process_that_leaks_is_named_with_its_rate() -> None:
    found = one_kind(lambda at: [process(80 * MIB + 30 * KB * at)])
    assert found.slope == pytest.approx(30 * KB)
    (line,) = found.evidence
    assert line.startswith("worker-0, worker 7: its memory grows by 30.0 KiB/s")


def test_a_warm_up_is_no_leak() -> None:
    found = one_kind(lambda at: [process(80 * MIB + 20 * MIB * min(1, at / 60))])
    assert found.judged == 1
    assert not found.evidence
    assert found.peak == 100 * MIB


def test_the_least_leak_that_would_be_found_is_said_and_is_found() -> None:
    flat = one_kind(lambda at: [process(80 * MIB)])
    assert flat.finds is not None
    assert flat.finds == pytest.approx(LIMITS.process / 235)
    assert one_kind(lambda at: [process(80 * MIB + 1.05 * flat.finds * at)]).evidence
    assert not one_kind(lambda at: [process(80 * MIB + 0.8 * flat.finds * at)]).evidence


def test_an_hour_finds_a_leak_of_two_kilobytes_a_second() -> None:
    found = one_kind(lambda at: [process(80 * MIB + 2 * KB * at)], seconds=3600)
    assert found.finds is not None
    assert found.finds < 2 * KB
    assert found.evidence


def test_a_process_that_was_started_again_is_another_series() -> None:
    """Each run of it is larger than the one before, as by a larger backlog at its start, and none of them grows."""
    found = one_kind(lambda at: [process((80 + 20 * (at // 100)) * MIB, born=at // 100)])
    assert (found.series, found.judged) == (3, 0)
    long = one_kind(lambda at: [process((80 + 20 * (at // 200)) * MIB, born=at // 200)], seconds=600)
    assert (long.series, long.judged, long.evidence) == (3, 3, [])


def test_a_leak_is_found_in_whichever_run_it_is() -> None:
    def make(at: float) -> list[ProcessSample]:
        return [process(80 * MIB, pid=1), process(80 * MIB + (60 * KB * at if at >= 300 else 0), pid=2, born=at // 300)]

    found = one_kind(make, seconds=600)
    assert found.series == 3
    assert [line.partition(":")[0] for line in found.evidence] == ["worker-0, worker 2"]


@pytest.mark.parametrize("what", ["files", "threads"])
def test_descriptors_and_threads_that_are_never_given_back_are_found(what: str) -> None:
    found = one_kind(lambda at: [process(80 * MIB, **{what: int(10 + at / 5)})])
    assert [what in line for line in found.evidence] == [True]


def one_family(
    bound: Bound,
    entries: Callable[[float], float],
    *,
    size: int = 100,
    most: int | None = None,
    left: int | None = None,
) -> FamilyVerdict:
    made = run(lambda at: Sample(at, families={"x": FamilySample(1, int(entries(at)), int(entries(at) * 100))}))
    over = None if left is None else Sample(400.0, families={"x": FamilySample(1, left, left * 100)})
    return verdicts.family("x", bound, made, LIMITS, most, over)


def test_a_family_may_fill_up_swing_and_stay() -> None:
    window = one_family(Bound("a window"), lambda at: min(at, 150) * 50 + 40 * (at % 30))
    assert not window.evidence
    assert window.slope == pytest.approx(0, abs=0.5)


def test_a_family_that_never_stops_growing_is_found() -> None:
    found = one_family(Bound("nothing"), lambda at: 1000 + 5 * at)
    assert [line.startswith("x grows by 5.00 entries/s") for line in found.evidence] == [True]


def test_a_family_whose_entries_become_larger_is_found() -> None:
    made = run(lambda at: Sample(at, families={"x": FamilySample(1, 10, int(10_000 * at))}))
    assert verdicts.family("x", Bound("nothing"), made, LIMITS, None, None).evidence


def test_a_family_over_its_hard_bound_is_found_and_one_that_fills_up_to_it_is_not() -> None:
    filling = Bound("the newest", most=lambda _, __: 0, fills=True)
    assert not one_family(filling, lambda at: 10 * at, most=3000).evidence
    assert one_family(filling, lambda at: 20 * at, most=3000).evidence


def test_what_is_trimmed_behind_the_work_may_be_over_its_bound_until_that_is_over() -> None:
    trimmed = Bound("records", trimmed=True)
    assert not one_family(trimmed, lambda at: 1601, most=1600, left=1600).evidence
    assert one_family(trimmed, lambda at: 1600, most=1600, left=1601).evidence


def test_what_is_left_when_the_work_is_over_is_found_where_nothing_may_be() -> None:
    assert one_family(Bound("work", ends=True), lambda at: 50, left=1).evidence
    assert not one_family(Bound("work", ends=True), lambda at: 50, left=0).evidence
    assert not one_family(Bound("teams"), lambda at: 50, left=50).evidence


def test_data_and_connections_of_the_server_that_grow_are_found() -> None:
    def found(used: float, clients: float) -> Sequence[str]:
        made = run(lambda at: Sample(at, server=ServerSample(int(20 * MIB + used * at), int(30 + clients * at))))
        server = verdicts.server(made, LIMITS)
        assert server is not None
        return server.evidence

    assert not found(0, 0)
    assert ["data grow" in line for line in found(60 * KB, 0)] == [True]
    assert ["connections grow" in line for line in found(0, 0.5)] == [True]


def test_drift_in_any_sample_is_found() -> None:
    samples = [Sample(0.0, drift=[], released=1), Sample(5.0), Sample(10.0, drift=["partition 3"], released=9)]
    found = verdicts.drift(samples)
    assert (found.looked, found.released, found.evidence) == (2, 9, ["at 10 s, partition 3"])


def test_a_run_that_saw_a_key_without_a_row_says_so() -> None:
    settings = Settings(archive_events=100, quarantine_max=10)
    assert dict(SETTINGS)["ARCHIVE_EVENTS"] == "100"
    sample = Sample(0.0, families={families.UNLISTED: FamilySample(1, 1, 80), "{pNN}:archive": FamilySample(8, 801, 9)})

    def most(bound: Bound) -> int | None:
        return None if bound.most is None else bound.most(settings, 8)

    found = verdicts.judge([sample], LIMITS, families.BOUNDS, most, over=sample)
    assert [line.partition(" ")[0] for line in found.evidence] == ["{pNN}:archive", families.UNLISTED]
