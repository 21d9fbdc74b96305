"""The generator of sample deliveries: what benches and the storm test rely on."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core import envelope
from worker.ops import samples

streams = st.builds(
    samples.stream,
    seed=st.integers(0, 2**32),
    events=st.integers(1, 150),
    teams=st.integers(1, 12),
    duplicates=st.sampled_from([0.0, 0.2, 1.0]),
    displacement=st.sampled_from([0, 1, 32]),
    gaps=st.sampled_from([0.0, 0.3]),
)


@given(streams)
@settings(max_examples=50, deadline=None)
def test_every_body_is_an_event_and_says_what_the_delivery_says(stream: list[samples.SampleDelivery]) -> None:
    for delivery in stream:
        read = envelope.read(delivery.body)
        assert (read.id, read.seq, read.team) == (delivery.event_id, delivery.seq, delivery.team)
        assert read.prospect is not None
        assert read.occurred_ms is not None


@given(st.integers(), st.integers(1, 200), st.integers(1, 9), st.sampled_from([0, 32]))
@settings(max_examples=50, deadline=None)
def test_without_gaps_a_teams_numbers_are_consecutive_and_each_is_one_event(
    seed: int, events: int, teams: int, displacement: int
) -> None:
    stream = samples.stream(seed, events, teams, duplicates=0.2, displacement=displacement)
    ids = {delivery.event_id: delivery for delivery in stream}
    assert len(ids) == events
    by_team: defaultdict[str, list[int]] = defaultdict(list)
    for delivery in ids.values():
        by_team[delivery.team].append(delivery.seq)
    assert len(by_team) <= teams
    for numbers in by_team.values():
        assert sorted(numbers) == list(range(min(numbers), min(numbers) + len(numbers)))


def test_a_seed_gives_the_same_stream_and_another_seed_another() -> None:
    assert samples.stream(1, 100, 5, duplicates=0.2, displacement=8) == samples.stream(
        1, 100, 5, duplicates=0.2, displacement=8
    )
    assert samples.stream(1, 100, 5, duplicates=0.2, displacement=8) != samples.stream(
        2, 100, 5, duplicates=0.2, displacement=8
    )


def test_arrivals_are_displaced_by_no_more_than_asked() -> None:
    displaced = samples.stream(3, 500, 5, displacement=16)
    # Timestamps are a millisecond apart, in the order of turns.
    turns = [envelope.read(delivery.body).occurred_ms or 0 for delivery in displaced]
    origin = min(turns)
    assert turns != sorted(turns)
    assert all(abs(place - (turn - origin)) <= 16 for place, turn in enumerate(turns))


def test_duplicates_and_gaps_come_in_the_share_asked_for() -> None:
    stream = samples.stream(4, 4000, 20, duplicates=0.2, gaps=0.1)
    copies = Counter(delivery.event_id for delivery in stream)
    assert set(copies.values()) == {1, 2}
    assert 0.17 < sum(count == 2 for count in copies.values()) / 4000 < 0.23
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for delivery in stream:
        numbers[delivery.team].add(delivery.seq)
    missing = sum(max(seqs) - min(seqs) + 1 - len(seqs) for seqs in numbers.values())
    assert 0.15 < missing / 4000 < 0.25  # one event in ten, two numbers on average


def test_team_sizes_are_zipf_and_bodies_have_the_samples_size() -> None:
    stream = samples.stream(5, 5000, 500)
    sizes = [count for _, count in Counter(delivery.team for delivery in stream).most_common()]
    assert 0.13 < sizes[0] / 5000 < 0.24
    assert 1.6 < sizes[0] / sizes[1] < 2.9  # 2 ** 1.1 = 2.14
    lengths = [len(delivery.body) for delivery in stream]
    assert 1300 < sum(lengths) / len(lengths) < 1700
    assert max(lengths) < 1800


def test_the_story_has_three_changes_out_of_order_and_one_duplicate() -> None:
    told = samples.story()
    read = [envelope.read(delivery.body) for delivery in told.deliveries]
    assert {event.team for event in read} == {told.team}
    assert len({event.prospect for event in read}) == 1
    assert [event.seq - read[0].seq for event in read] == [0, 2, 1, 1, 3]
    owners = [event.assignee for event in sorted(set(read), key=lambda event: event.seq)]
    assert owners[1] == owners[2]
    assert owners[3] is None
    assert len(set(owners)) == told.changes == 3
    assert samples.story().team != told.team
