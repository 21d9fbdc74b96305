"""What must hold whatever the network does (tests/property/books.py checks conservation and progress at every step)."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from tests.property.books import Books
from tests.property.streams import END, EPOCH, LONG, TEAMS, Batch, batches, finished, fixed_policies, policies, run
from worker.core.changes import ChangeKind
from worker.core.envelope import Envelope
from worker.core.lateness import GapWait
from worker.core.sequencing import Delivery, Policy, Proof, Released

PATIENT = Policy(gap_wait=GapWait(fixed_ms=LONG), dedup_window_ms=10 * END)


def place(event: Envelope) -> tuple[int, int, str]:
    return event.seq, event.occurred_ms or 0, event.id


def of_team(team: str, released: Iterable[Released]) -> list[tuple[str, bool, object]]:
    return [(r.arrival.event.id, r.late, r.change) for r in released if r.arrival.event.team == team]


def delivered(story: list[Batch]) -> set[tuple[str, str]]:
    items = [item for batch in story for item in batch.items]
    events = [item.content for item in items if isinstance(item, Delivery)]
    return {(event.team, event.id) for event in events if isinstance(event, Envelope)}


@given(policies, batches(), st.booleans())
def test_every_event_ends_once_and_none_is_left_waiting(policy: Policy, story: list[Batch], as_text: bool) -> None:
    books = finished(policy, story, as_text=as_text)
    out = [(r.arrival.event.team, r.arrival.event.id) for r in books.released]
    assert len(out) == len(set(out))
    too_old = sum(reason == "too_old" for reason in books.quarantined.values())
    assert len(out) + too_old == len(delivered(story))
    assert not books.deadlines


@given(policies, batches(timed=True), st.booleans())
def test_no_id_goes_out_twice_though_ids_are_forgotten(policy: Policy, story: list[Batch], as_text: bool) -> None:
    """Ids are remembered for a window only; an event's age and what is held must make up for it."""
    books = finished(policy, story, as_text=as_text, forgetful=True)
    out = [(r.arrival.event.team, r.arrival.event.id) for r in books.released]
    assert len(out) == len(set(out))


@given(policies, batches())
def test_a_team_goes_out_in_order_and_what_does_not_is_marked(policy: Policy, story: list[Batch]) -> None:
    books = Books(policy)
    top: dict[str, Envelope] = {}
    passed: dict[str, int] = {}
    for batch in story:
        for item in batch.items:
            if isinstance(item[1], Proof):
                passed[item[1].team] = max(passed.get(item[1].team, -1), item[1].seq)
        for released in books.step(batch.items, batch.clock, batch.now).released:
            event = released.arrival.event
            last = top.get(event.team)
            if released.late:
                watermark = max(passed.get(event.team, -1), -1 if last is None else last.seq)
                assert event.seq <= watermark
            else:
                assert last is None or place(event) > place(last)
                top[event.team] = event


@given(policies, batches())
def test_the_last_change_of_a_prospect_has_the_owner_of_its_highest_number(policy: Policy, story: list[Batch]) -> None:
    books = finished(policy, story)
    newest: dict[tuple[str, str], Envelope] = {}
    owner: dict[tuple[str, str], str | None] = {}
    for released in books.released:
        event, change = released.arrival.event, released.change
        if event.prospect is None:
            assert change is None
            continue
        assert change is not None
        key = event.team, event.prospect
        newest[key] = max(newest.get(key, event), event, key=place)
        if change.stale:
            assert newest[key] is not event
            continue
        assert (change.previous_known, change.previous) == (key in owner, owner.get(key))
        if change.previous_known:
            assert (change.kind is ChangeKind.UNCHANGED) == (change.previous == event.assignee)
        owner[key] = event.assignee
    assert owner == {key: event.assignee for key, event in newest.items()}


@given(fixed_policies, batches(), st.sampled_from(TEAMS))
def test_a_team_fares_as_if_it_were_alone(policy: Policy, story: list[Batch], team: str) -> None:
    def of_ours(item: object) -> bool:
        named = item.content if isinstance(item, Delivery) else item[1]  # type: ignore[index]
        return getattr(named, "team", None) == team

    alone = [Batch([item for item in batch.items if of_ours(item)], batch.clock, batch.now) for batch in story]
    together, by_itself = run(policy, story), run(policy, alone)
    assert of_team(team, together.released) == of_team(team, by_itself.released)
    assert together.held_of(team) == by_itself.held_of(team)
    assert together.deadlines.get(team) == by_itself.deadlines.get(team)


@given(st.sampled_from([1, 2, 3, 1000]), st.sampled_from([1, 4, 7, 1000]), batches())
def test_how_deliveries_are_cut_into_batches_makes_no_difference(
    held_max: int, held_bytes: int, story: list[Batch]
) -> None:
    """While no wait ends: what is released depends on the deliveries and their order alone."""
    policy = Policy(PATIENT.gap_wait, held_max, held_bytes, PATIENT.dedup_window_ms)
    items = [item for batch in story for item in batch.items]
    books = [Books(policy), Books(policy), Books(policy)]
    books[0].step(items, EPOCH)
    for item in items:
        books[1].step([item], EPOCH)
    for batch in story:
        books[2].step(batch.items, EPOCH)
    assert books[0].released == books[1].released == books[2].released
    assert books[0].quarantined == books[1].quarantined == books[2].quarantined
    assert books[0].duplicates == books[1].duplicates == books[2].duplicates


@st.composite
def shuffled(draw: st.DrawFn) -> tuple[int, list[Envelope]]:
    first = draw(st.sampled_from([0, 1, 5]))
    count = draw(st.integers(1, 12))
    events = [Envelope(f"e{n}", first + n, "ants", "tag.created", EPOCH, None, None) for n in range(count)]
    return first, draw(st.permutations(events))


@given(shuffled(), st.booleans(), st.lists(st.integers(0, 12), max_size=3))
def test_a_complete_stream_in_any_order_goes_out_in_perfect_order(
    stream: tuple[int, list[Envelope]], proven: bool, cuts: list[int]
) -> None:
    """With patience. A team heard of before needs no wait to end for it; a new one waits once."""
    first, events = stream
    books = Books(PATIENT)
    if proven and first > 0:
        books.step([("0-0", Proof("ants", first - 1))], EPOCH)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(events)], strict=True):
        books.step([Delivery(f"{EPOCH}-{n}", EPOCH, event) for n, event in enumerate(events)][start:end], EPOCH)
    if not (proven and first > 0):
        assert not books.released
        books.step([], EPOCH + LONG)
    assert [r.arrival.event.seq for r in books.released] == [first + n for n in range(len(events))]
    assert not any(r.late for r in books.released)


@given(st.integers(0, 20), st.integers(0, 4000), st.integers(0, 4000))
def test_what_is_too_old_to_be_told_from_a_duplicate_is_set_aside_once(seq: int, age: int, behind: int) -> None:
    """Below the watermark, whatever the age at arrival: only the time of looking up counts."""
    policy = Policy(GapWait(fixed_ms=LONG), dedup_window_ms=2000)
    books = Books(policy)
    arrived = EPOCH + age
    event = Envelope("old", seq, "ants", "tag.created", EPOCH, None, None)
    books.step([("0-1", Proof("ants", 20))], EPOCH)
    books.step([Delivery("1-1", arrived, event), Delivery("1-2", arrived, event)], arrived, arrived + behind)
    assert books.duplicates == ["1-2"]
    assert books.quarantined == ({"1-1": "too_old"} if age + behind > 2000 else {})
    assert [r.late for r in books.released] == ([] if age + behind > 2000 else [True])
