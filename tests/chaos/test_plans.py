"""What is to happen follows from the seed, and has in it what it is for."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos import recorder, schedule, workload
from tests.chaos.faults import FAULTS
from tests.chaos.sabotage import SABOTAGES
from tests.chaos.scenarios import SCENARIOS
from worker.core.envelope import Unreadable, read

LONG = schedule.Rhythm(until=600)


def test_the_same_seed_makes_the_same_faults_and_the_same_load() -> None:
    make = [lambda seed=seed: schedule.make(seed, LONG, workers=3, ingresses=2) for seed in (1, 1, 2)]  # type: ignore[misc]
    assert make[0]() == make[1]() != make[2]()
    shape = workload.Shape(seconds=10)
    assert workload.make(1, shape) == workload.make(1, shape) != workload.make(2, shape)


def test_every_kind_of_fault_is_dealt_before_any_comes_again() -> None:
    kinds = [step.kind for step in schedule.make(3, LONG, workers=3, ingresses=2)]
    assert set(kinds[: len(schedule.KINDS)]) == set(schedule.KINDS)


def test_two_faults_never_break_the_same_thing_at_once_and_all_end_in_time() -> None:
    for seed in range(20):
        steps = schedule.make(seed, LONG, workers=3, ingresses=2)
        assert all(step.at + step.lasting < LONG.until for step in steps)
        busy: dict[str, float] = {}
        for step in steps:
            resource = schedule.resource(schedule.KINDS[step.kind].whose, step.target, 3)
            assert step.at >= busy.get(resource, 0.0)
            busy[resource] = step.at + step.lasting


def test_there_are_calms_in_which_what_is_forgotten_shows() -> None:
    steps = schedule.make(4, LONG, workers=3, ingresses=2)
    assert any(after.at - (step.at + step.lasting) >= LONG.calm for step, after in pairwise(steps))


def test_every_kind_has_a_fault_and_every_sabotage_a_scenario() -> None:
    assert FAULTS.keys() == schedule.KINDS.keys()
    assert SABOTAGES.keys() == SCENARIOS.keys()
    assert {number for sabotage in SABOTAGES.values() for number in sabotage.breaks} == {1, 2, 3, 4, 5, 6, 7}


def test_the_load_is_what_the_provider_sends() -> None:
    shape = workload.Shape(seconds=120, rate=20)
    made = workload.make(5, shape)
    events = [message for message in made.messages if message.kind == "event"]
    times = Counter(sending.number for sending in made.sendings)
    assert len(events) == 2400
    assert len({message.key for message in made.messages}) == len(made.messages)
    assert 0.1 < sum(count > 1 for count in times.values()) / len(events) < 0.2
    assert set(times) == set(range(len(made.messages)))
    arrivals = [
        made.messages[sending.number].seq
        for sending in made.sendings
        if made.messages[sending.number].team == "team-00"
    ]
    assert arrivals != sorted(arrivals)
    sizes = Counter(message.team for message in events)
    assert sizes["team-00"] > 4 * sizes["team-11"]
    assert {"poison", "stuck", "lethal"} <= sizes.keys()


def test_the_bodies_say_what_the_messages_say() -> None:
    for message in workload.make(6, workload.Shape(seconds=60)).messages:
        if message.kind == "unreadable":
            with pytest.raises(Unreadable):
                read(message.body)
            continue
        envelope = read(message.body)
        assert (envelope.id, envelope.team) == (message.key, message.team)
        if message.kind == "event":
            assert (envelope.seq, envelope.type, envelope.occurred_ms) == (message.seq, message.type, message.at_ms)
            assert (envelope.prospect, envelope.assignee) == (message.prospect, message.assignee)
            assert message.names_owner == (envelope.prospect is not None)


def test_records_are_read_back_and_a_cut_line_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(recorder.FOLDER, str(tmp_path))
    monkeypatch.setattr(recorder, "_files", {})
    recorder.write("start", 1, "a b")
    recorder.write("end", 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'["start", 2')
    assert [words for _, words in recorder.read(tmp_path)] == [["start", 1, "a b"], ["end", 1]]
