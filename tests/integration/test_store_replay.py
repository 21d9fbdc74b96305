"""Replays on a real server: whole pieces or nothing, gone on with anywhere, and books that agree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.store_kit import Partition, change, other, partition_on, to
from worker.core.replaying import Skip, Wanted, terms_of
from worker.store.archive import Archive
from worker.store.lanes import Settlement
from worker.store.replay import Plan, Replay, Replays, ReplaysElsewhere, Step

NUMBERS = count()

ON_A_CLUSTER = True


@pytest.fixture
def kept(any_server_url: str, prefix: str) -> Iterator[Partition]:
    with partition_on(any_server_url, prefix, archive_events=100) as made:
        yield made


def archive(partition: Partition) -> Archive:
    return Archive(partition.client, partition.scripts, partition.keys, partition.settings)


def planned(partition: Partition, handler: str = "new", *, force: bool = False, **wanted: Any) -> Plan:
    replays = Replays(partition.client, partition.settings.prefix, [archive(partition)])
    # Partition 1 is the only one that there is here, and a plan has a place for each.
    plan = replays.plan(handler, "me", Wanted(**wanted), now=1, force=force)
    return Plan(
        f"{plan.id}-{next(NUMBERS)}", handler, "me", 1, force, (0, *plan.ends), plan.team, plan.prospect, plan.type
    )


def replay(partition: Partition, plan: Plan, **described: Any) -> Replay:
    return Replay(archive(partition), plan, terms_of({"name": plan.handler, "on": "assignee changes"} | described))


def finish(partition: Partition, handler: str) -> list[int]:
    """All jobs of the handler are done; their numbers in the order of the calls."""
    lanes, called = partition.lanes(handler), []
    while (claim := lanes.claim(lanes=9, jobs=99, per_lane=99)).lanes:
        for lane in claim.lanes:
            called += [job.job.seq for job in lane.jobs]
            assert all(job.body for job in lane.jobs)
            lanes.settle([Settlement(claim.token, lane.lane, done=len(lane.jobs))])
    return called


def total(steps: Iterator[Step]) -> tuple[int, dict[Skip, int]]:
    found = list(steps)
    skipped = sum((step.skipped for step in found), start=type(found[0].skipped)()) if found else {}
    return sum(step.replayed for step in found), {skip: count for skip, count in skipped.items() if count}


def three_prospects(partition: Partition) -> None:
    """Events 1 to 6 of a team: p1, p2, p1, a message, p3, p2."""
    bodies = [change("a", seq, prospect=prospect) for seq, prospect in enumerate(["p1", "p2", "p1"], 1)]
    bodies += [other("a", 4), change("a", 5, prospect="p3"), change("a", 6, prospect="p2", assignee="m9")]
    partition.sequence(*bodies, route=to("crm"))
    finish(partition, "crm")


def test_a_new_handler_gets_the_newest_of_each_prospect_in_order(kept: Partition) -> None:
    three_prospects(kept)
    assert total(replay(kept, planned(kept)).steps()) == (3, {Skip.STALE: 1, Skip.UNWANTED: 2})
    assert finish(kept, "new") == [1, 5, 6]  # what came after 1 is an echo of it, and nobody gets that
    books = kept.balanced("crm", "new")
    assert (books.handlers["new"].routed, books.handlers["new"].done, books.waiting) == (3, 3, 0)
    archive(kept).trim(10**15)
    assert kept.balanced("crm", "new").in_stream == 0
    assert not kept.client.exists(kept.keys.ends)


def test_with_force_everything_goes_out(kept: Partition) -> None:
    three_prospects(kept)
    assert total(replay(kept, planned(kept, force=True)).steps())[0] == 4
    assert finish(kept, "new") == [1, 2, 5, 6]


def test_every_type_can_be_asked_for_and_events_do_not_overtake_each_other(kept: Partition) -> None:
    three_prospects(kept)
    assert total(replay(kept, planned(kept), on=["*"]).steps())[0] == 6
    assert finish(kept, "new") == [1, 2, 3, 4, 5, 6]


def test_what_was_done_can_be_done_again_but_not_what_still_waits(kept: Partition) -> None:
    three_prospects(kept)
    assert total(replay(kept, planned(kept, "crm")).steps())[0] == 3
    assert total(replay(kept, planned(kept, "crm")).steps()) == (0, {Skip.WAITING: 3, Skip.STALE: 1, Skip.UNWANTED: 2})
    assert finish(kept, "crm") == [1, 5, 6]
    assert kept.balanced("crm").handlers["crm"].done == 9


def test_to_count_is_to_write_nothing(kept: Partition) -> None:
    three_prospects(kept)
    before = kept.dump()
    assert total(replay(kept, planned(kept)).steps(2, dry=True))[0] == 3
    assert kept.dump() == before


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_a_replay_that_was_killed_goes_on_where_it_was(kept: Partition, piece: int) -> None:
    """After each piece another process takes over: none is replayed twice, and none is left out."""
    three_prospects(kept)
    plan, replayed = planned(kept, force=True), 0
    while (step := next(replay(kept, plan).steps(piece), None)) is not None:
        replayed += step.replayed
        kept.sequence(change("a", 100 + replayed, prospect="other"), route=to())  # later ones are not its business
    assert replayed == 4
    assert finish(kept, "new") == [1, 2, 5, 6]


def test_two_processes_do_not_replay_the_same(kept: Partition) -> None:
    three_prospects(kept)
    plan = planned(kept, force=True)
    first = replay(kept, plan).steps(2)
    assert next(first).replayed == 2
    second = replay(kept, plan).steps(2)
    next(second)
    with pytest.raises(ReplaysElsewhere):
        next(first)
    list(second)
    assert finish(kept, "new") == [1, 2, 5, 6]


def test_an_owner_that_changes_while_it_is_decided_is_noticed(kept: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer change that is released between the look and the write: the older one must not follow it."""
    three_prospects(kept)
    made = replay(kept, planned(kept))
    decide = made._decide
    meanwhile = iter([lambda: kept.sequence(change("a", 7, prospect="p3", assignee="m7"), route=to())])

    def deciding(*arguments: Any) -> Any:
        found = decide(*arguments)
        next(meanwhile, lambda: None)()
        return found

    monkeypatch.setattr(made, "_decide", deciding)
    assert total(made.steps())[1][Skip.STALE] == 2
    assert finish(kept, "new") == [1, 6]


def test_records_that_leave_meanwhile_are_not_written_over(kept: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    three_prospects(kept)
    plan = planned(kept, force=True)
    small = partition_of_two(kept)
    made = replay(kept, plan)
    decide = made._decide
    meanwhile = iter([lambda: small.trim(0)])

    def deciding(*arguments: Any) -> Any:
        found = decide(*arguments)
        next(meanwhile, lambda: None)()
        return found

    monkeypatch.setattr(made, "_decide", deciding)
    assert total(made.steps())[0] == 2
    assert finish(kept, "new") == [5, 6]
    assert [record.handlers for record in archive(kept).read(0, 9).records] == [["crm", "new"], ["crm", "new"]]


def partition_of_two(partition: Partition) -> Archive:
    """The same archive under a bound of two records."""
    settings = partition.settings.model_copy(update={"archive_events": 2})
    return Archive(partition.client, partition.scripts, partition.keys, settings)


def test_a_blocked_lane_gets_its_jobs_and_stays_blocked(kept: Partition) -> None:
    three_prospects(kept)
    kept.client.hset(kept.keys.blocked("new"), "a", "{}")
    total(replay(kept, planned(kept)).steps())
    assert kept.client.zscore(kept.keys.ready("new"), "a") == float("inf")
    assert finish(kept, "new") == []
    kept.balanced("crm", "new")


def test_unfinished_replays_are_listed_until_they_are_forgotten(kept: Partition) -> None:
    three_prospects(kept)
    replays = Replays(kept.client, kept.settings.prefix, [archive(kept)])
    plan = planned(kept, team="a")
    replays.save(plan)
    next(replay(kept, plan).steps(2))
    assert replays.all() == {plan.id: plan}
    replays.forget(plan.id)
    assert replays.all() == {}
    assert not kept.client.exists(kept.keys.replays)
