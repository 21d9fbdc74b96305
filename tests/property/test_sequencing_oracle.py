"""The real sequencer against the naive one: the same deliveries come to the same end, whatever the network did."""

from hypothesis import given

from tests.property.books import Books
from tests.property.oracle import Oracle
from tests.property.streams import Batch, batches, fixed_policies, run
from worker.core.sequencing import Policy


def fates(books: Books) -> dict[str, str]:
    return books.quarantined | dict.fromkeys(books.duplicates, "duplicate") | dict.fromkeys(books.proofs, "proof")


def by_team(out: list[tuple[str, str, bool]]) -> dict[str, list[tuple[str, bool]]]:
    """Teams whose waits end in one step go out in any order among themselves."""
    found: dict[str, list[tuple[str, bool]]] = {}
    for team, name, late in out:
        found.setdefault(team, []).append((name, late))
    return found


@given(fixed_policies, batches())
def test_it_releases_and_refuses_what_the_naive_one_does(policy: Policy, story: list[Batch]) -> None:
    books, oracle = run(policy, story), Oracle(policy).run(story)
    out = [(released.arrival.event.team, released.arrival.event.id, released.late) for released in books.released]
    assert by_team(out) == by_team(oracle.out)
    assert fates(books) == oracle.fates
    assert {team: {a.event.id for a in books.held_of(team)} for team in books.held if books.held_of(team)} == {
        name: {event.id for event, _, _ in team.waiting} for name, team in oracle.teams.items() if team.waiting
    }


@given(fixed_policies, batches())
def test_it_makes_the_changes_that_the_naive_one_does(policy: Policy, story: list[Batch]) -> None:
    books, oracle = run(policy, story), Oracle(policy).run(story)
    changes = {(r.arrival.event.team, r.arrival.event.id): r.change for r in books.released}
    expected = {(team, name): change for (team, name, _), change in zip(oracle.out, oracle.changes, strict=True)}
    assert {key: change and tuple(change) for key, change in changes.items()} == expected


@given(fixed_policies, batches())
def test_nothing_is_lost_in_how_state_is_written(policy: Policy, story: list[Batch]) -> None:
    written, kept = run(policy, story, as_text=True), run(policy, story)
    assert written.released == kept.released
    assert fates(written) == fates(kept)
    assert written.deadlines == kept.deadlines
    assert {team: written.read_team(team) for team in written.teams} == {t: kept.read_team(t) for t in kept.teams}
    assert {team: written.held_of(team) for team in written.held} == {team: kept.held_of(team) for team in kept.held}
