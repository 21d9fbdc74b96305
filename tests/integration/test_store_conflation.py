"""Compaction of claimed lanes on a real server: what is left, who needs which body, and what a lost lane is spared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.store_kit import Partition, change, partition_on, to
from worker.core.dispatch import Terms
from worker.core.jobs import decode
from worker.errors import StoreUnavailable
from worker.store import conflation
from worker.store.blocking import Why, unblock
from worker.store.bodies import fetch
from worker.store.lanes import Action, Attempt, Claim, Dead, LaneStore, Settlement

CRM = Terms("crm", conflate=True)
BOTH = to(CRM, "mail")

ON_A_CLUSTER = True


def lanes(partition: Partition) -> LaneStore:
    return partition.lanes(conflate=True)


def claim(partition: Partition, *, jobs: int = 99, per_lane: int = 99) -> Claim:
    return lanes(partition).claim(lanes=64, jobs=jobs, per_lane=per_lane)


def fill(partition: Partition, *owners: str | None, team: str = "a", first: int = 1, route: Any = None) -> None:
    """Changes of prospect p: to these owners, one after another."""
    bodies = [change(team, seq, assignee=owner) for seq, owner in enumerate(owners, first)]
    partition.sequence(*bodies, route=route or to(CRM))


def seen(found: Claim) -> list[tuple[int, str | None, tuple[str, ...]]]:
    """Of all claimed jobs: number, previous owner, absorbed events."""
    return [
        (job.job.seq, job.job.joint.previous, job.job.joint.absorbed)
        for lane in found.lanes
        for job in lane.jobs
        if job.job.joint is not None
    ]


def test_a_lane_that_has_backed_up_is_one_change_of_each_prospect(partition: Partition) -> None:
    partition.sequence(
        *(change("a", seq, prospect=f"p{seq % 2}", assignee=f"m{seq}") for seq in range(1, 10)), route=to(CRM)
    )
    found = claim(partition)
    assert seen(found) == [
        (8, None, ("a-2", "a-4", "a-6")),
        (9, None, ("a-1", "a-3", "a-5", "a-7")),
    ]
    (lane,) = found.lanes
    assert [job.body for job in lane.jobs] == [
        change("a", 8, prospect="p0", assignee="m8"),
        change("a", 9, prospect="p1", assignee="m9"),
    ]
    assert (lane.waiting, lane.attempt, lane.crashed) == (2, 0, False)
    books = partition.balanced()
    assert (books.handlers["crm"].conflated, books.handlers["crm"].waiting, books.in_stream) == (7, 2, 2)
    lanes(partition).settle([Settlement(found.token, "a", done=2)])
    assert partition.balanced().in_stream == 0


def test_what_cancels_out_leaves_an_empty_lane_that_nobody_has(partition: Partition) -> None:
    fill(partition, "m1")
    one = claim(partition)
    lanes(partition).settle([Settlement(one.token, "a", done=1)])
    fill(partition, "m2", "m3", None, "m1", first=2)
    found = claim(partition)
    assert (found.lanes, found.dropped) == ([], ["a"])
    assert {"ready:crm", "claims:crm", "lane:crm:a"}.isdisjoint(partition.names())
    books = partition.balanced()
    assert (books.handlers["crm"].conflated, books.handlers["crm"].waiting, books.in_stream) == (4, 0, 0)
    fill(partition, "m9", first=6)
    assert seen(claim(partition)) == [(6, "m1", ())]


def test_absorbed_bodies_stay_for_those_who_need_them_and_are_fetched_by_nobody_else(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(partition, "m1", "m2", "m3", route=BOTH)
    asked: list[str] = []

    def noting(client: redis.Redis, inbox: str, entries: list[str]) -> dict[str, bytes]:
        asked.extend(entries)
        return fetch(client, inbox, entries)

    monkeypatch.setattr("worker.store.lanes.fetch", noting)
    last = decode(partition.in_lane("crm", "a")[-1]).entry
    found = claim(partition)
    assert asked == [last]
    assert partition.balanced().in_stream == 3
    lanes(partition).settle([Settlement(found.token, "a", done=1)])
    other = partition.lanes("mail").claim(lanes=9, jobs=9, per_lane=9)
    assert [job.job.seq for job in other.lanes[0].jobs] == [1, 2, 3]
    assert all(job.body for job in other.lanes[0].jobs)
    partition.lanes("mail").settle([Settlement(other.token, "a", done=3)])
    assert (partition.balanced().in_stream, partition.client.exists(partition.keys.refs)) == (0, 0)


@pytest.fixture
def archived(any_server_url: str, prefix: str) -> Iterator[Partition]:
    with partition_on(any_server_url, prefix, archive_events=10) as found:
        yield found


def test_the_archive_knows_what_became_of_absorbed_events(archived: Partition) -> None:
    fill(archived, "m1", "m2", "m3", route=to(CRM))
    entries = [decode(text).entry for text in archived.in_lane("crm", "a")]
    found = claim(archived)
    books = archived.balanced()
    assert (books.in_stream, books.ledger["kept"]) == (3, 2)
    ends = archived.client.hgetall(archived.keys.ends)
    assert ends.keys() == {f"{entry} crm".encode() for entry in entries[:2]}
    assert [text.split()[0::2] for text in ends.values()] == [[b"conflated", b"0"]] * 2
    lanes(archived).settle([Settlement(found.token, "a", done=1)])
    assert archived.balanced().ledger["kept"] == 3


def test_a_lost_lane_is_left_as_it_is(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken by somebody else between the reading and the writing."""
    fill(partition, "m1", "m2", "m3", route=BOTH)
    page = conflation.Conflation._page
    taken: list[Any] = []

    def late(self: conflation.Conflation, lane: str, start: int) -> list[bytes]:
        texts = page(self, lane, start)
        if not taken:
            partition.expire_claims()
            taken.append(partition.lanes().claim(lanes=9, jobs=9, per_lane=9))
            taken.append(partition.dump())
        return texts

    monkeypatch.setattr(conflation.Conflation, "_page", late)
    assert claim(partition).lanes == []
    assert partition.dump() == taken[1]


def test_a_lane_that_does_not_begin_with_what_was_read_is_left_as_it_is(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(partition, "m1", "m2", "m3")
    page = conflation.Conflation._page

    def meddled(self: conflation.Conflation, lane: str, start: int) -> list[bytes]:
        texts = page(self, lane, start)
        partition.client.rpoplpush(partition.keys.lane("crm", "a"), partition.keys.lane("crm", "a"))
        return texts

    monkeypatch.setattr(conflation.Conflation, "_page", meddled)
    assert len(claim(partition).lanes[0].jobs) == 3
    assert partition.balanced().handlers["crm"].conflated == 0


def test_a_process_that_dies_between_two_pages_leaves_a_lane_that_is_right(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflation, "PAGE", 4)
    fill(partition, *(f"m{number}" for number in range(10)), route=BOTH)
    page = conflation.Conflation._page

    def dying(self: conflation.Conflation, lane: str, start: int) -> list[bytes]:
        if start:
            raise StoreUnavailable("gone")
        return page(self, lane, start)

    monkeypatch.setattr(conflation.Conflation, "_page", dying)
    with pytest.raises(StoreUnavailable):
        claim(partition, per_lane=9)
    assert partition.seqs_in("crm", "a") == [4, 5, 6, 7, 8, 9, 10]
    assert partition.balanced().handlers["crm"].conflated == 3
    monkeypatch.setattr(conflation.Conflation, "_page", page)
    partition.expire_claims()
    found = claim(partition)
    # Whoever had it may have begun the first: it had claimed that one alone.
    assert seen(found) == [(4, None, ("a-1", "a-2", "a-3"))]
    assert (found.lanes[0].crashed, found.lanes[0].attempt, found.lanes[0].waiting) == (True, 1, 2)
    assert partition.seqs_in("crm", "a") == [4, 10]
    partition.balanced()


def test_many_pages_come_to_the_same_as_one(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflation, "PAGE", 3)
    bodies = [change("a", seq, prospect=f"p{seq % 3}", assignee=f"m{seq}") for seq in range(1, 41)]
    partition.sequence(*bodies, route=to(CRM))
    found = claim(partition)
    assert [(seq, len(absorbed)) for seq, _, absorbed in seen(found)] == [(38, 12), (39, 12), (40, 13)]
    partition.balanced()


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_job_in_trouble_is_left_as_it_is(partition: Partition, attempts: int) -> None:
    """It may have been applied. What would cancel out behind it goes out, for nobody knows what the handler has."""
    fill(partition, "m1", "m2", "m1", "m2", "m1")
    first = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    failed = [Attempt(number, 1, "E", "e") for number in range(1, attempts + 1)]
    partition.lanes().settle([Settlement(first.token, "a", action=Action.RETRY, attempts=attempts, failed=failed)])
    partition.expire_claims()
    found = claim(partition)
    (lane,) = found.lanes
    assert (lane.attempt, lane.failed, lane.waiting) == (attempts + 1, failed, 2)
    assert seen(found) == [(1, None, ())]
    lanes(partition).settle([Settlement(found.token, "a", done=1)])
    again = claim(partition)
    assert seen(again) == [(5, None, ("a-2", "a-3", "a-4"))]
    change_ = again.lanes[0].jobs[0].job.change
    assert change_ is not None
    assert (change_.kind, change_.previous_known) == ("assigned", False)
    partition.balanced()


def test_nothing_cancels_out_of_a_prospect_whose_change_became_a_dead_letter(partition: Partition) -> None:
    """The handler was never told of m1: to leave out what comes back to m1 would leave it behind for good."""
    team = "a:b"

    def settle(found: Claim, letter: str) -> None:
        dead = [Dead(1, [], "E", "e")] if letter == "D" else []
        lanes(partition).settle([Settlement(found.token, "a%3Ab", ended=letter, dead=dead)])

    fill(partition, "m1", team=team)
    settle(claim(partition), "D")
    partition.sequence(change(team, 2, prospect="q"), route=to(CRM))
    settle(claim(partition), "d")  # another's, which tells nothing of p
    fill(partition, "m2", "m1", team=team, first=3)
    found = claim(partition)
    assert seen(found) == [(4, None, (f"{team}-3",))]
    job = found.lanes[0].jobs[0].job
    assert job.change is not None
    assert (job.change.kind, job.change.previous_known) == ("assigned", False)
    settle(found, "d")
    fill(partition, "m2", "m1", team=team, first=5)
    assert claim(partition).lanes == []
    assert "missed:crm" not in partition.names()
    partition.balanced()


def test_a_discarded_change_tells_the_handler_nothing(partition: Partition) -> None:
    fill(partition, "m1")
    lanes(partition).settle([Settlement(claim(partition).token, "a", ended="D", dead=[Dead(1, [], "E", "e")])])
    fill(partition, "m2", first=2)
    lanes(partition).settle([Settlement(claim(partition).token, "a", discarded=1)])
    fill(partition, "m3", "m2", first=3)
    assert len(seen(claim(partition))) == 1


@pytest.mark.parametrize("give_up", [False, True])
def test_a_job_that_was_let_on_after_its_last_attempt_may_have_been_applied(
    partition: Partition, give_up: bool
) -> None:
    fill(partition, "m1", "m2", "m1")
    first = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    partition.lanes().settle([Settlement(first.token, "a", action=Action.BLOCK, attempts=1, error="E")])
    unblock(partition.scripts, partition.keys, "crm", ["a"], Why.EXHAUSTED, give_up=give_up)
    found = claim(partition)
    assert seen(found) == ([(3, None, ("a-2",))] if give_up else [(1, None, ())])
    assert found.lanes[0].waiting == 2 - give_up
    partition.balanced()


def test_jobs_that_were_in_the_hands_of_a_dead_process_are_left_as_they_are(partition: Partition) -> None:
    """Any of them may have been applied; one by one they come, and what is behind them is one."""
    fill(partition, "m1", "m2", "m3", "m4", "m5", "m6")
    partition.lanes().claim(lanes=1, jobs=3, per_lane=3)
    partition.expire_claims()
    taken = []
    for _ in range(4):
        found = claim(partition)
        taken += [(seq, found.lanes[0].attempt, found.lanes[0].crashed) for seq, *_ in seen(found)]
        lanes(partition).settle([Settlement(found.token, "a", done=1)])
    assert taken == [(1, 1, True), (2, 1, False), (3, 1, False), (6, 1, False)]
    assert partition.balanced().handlers["crm"].conflated == 2


def test_one_job_at_a_time_of_a_lane_is_enough_to_compact_it(partition: Partition) -> None:
    """As under a rate."""
    fill(partition, "m1", "m2", "m3")
    found = claim(partition, jobs=1, per_lane=1)
    assert seen(found) == [(3, None, ("a-1", "a-2"))]
    assert found.lanes[0].attempt == 1


def test_a_compact_lane_is_not_read_again_until_something_new_is_in_it(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    page = conflation.Conflation._page

    def noting(self: conflation.Conflation, lane: str, start: int) -> list[bytes]:
        reads.append(start)
        return page(self, lane, start)

    monkeypatch.setattr(conflation.Conflation, "_page", noting)
    bodies = [change("a", seq, prospect=f"p{seq % 4}", assignee=f"m{seq}") for seq in range(1, 9)]
    partition.sequence(*bodies, route=to(CRM))
    taken = []
    for again in range(3):
        if again == 2:
            partition.sequence(change("a", 9, prospect="p0", assignee="m9"), route=to(CRM))
        found = claim(partition, per_lane=1)
        taken += [seq for seq, *_ in seen(found)]
        lanes(partition).settle([Settlement(found.token, "a", done=1)])
    assert taken == [5, 6, 7]
    assert reads == [0, 0]
    assert partition.seqs_in("crm", "a") == [9]


def test_a_lane_of_many_prospects_is_compacted_at_its_head_and_not_read_at_each_claim(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflation, "PAGE", 4)
    monkeypatch.setattr(conflation, "HEAD", 8)
    bodies = [change("a", seq, prospect=f"p{seq % 20}", assignee=f"m{seq}") for seq in range(1, 41)]
    partition.sequence(*bodies, route=to(CRM))
    taken: list[int] = []
    writes = 0
    run = partition.scripts.run

    def counting(name: str, *args: Any) -> Any:
        nonlocal writes
        writes += name == "conflate"
        return run(name, *args)

    store = lanes(partition)
    monkeypatch.setattr(partition.scripts, "run", counting)
    while (found := store.claim(lanes=1, jobs=1, per_lane=1)).lanes:
        taken += [seq for seq, *_ in seen(found)]
        store.settle([Settlement(found.token, "a", done=1)])
    assert taken == sorted(taken)
    assert {seq % 20 for seq in taken[-20:]} == set(range(20))
    assert writes < 20
    partition.balanced()


def test_lanes_for_which_there_is_no_time_are_handed_back_as_they_were(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflation, "SECONDS", 0.0)
    for team in "abc":
        fill(partition, "m1", "m2", team=team)
    found = claim(partition, per_lane=2)
    assert (len(found.lanes), len(found.dropped)) == (1, 2)
    assert partition.client.hkeys(partition.keys.claims("crm")) == [found.lanes[0].lane.encode()]
    others = [claim(partition, per_lane=1).lanes[0] for _ in range(2)]
    assert sorted(lane.lane for lane in (*found.lanes, *others)) == ["a", "b", "c"]
    assert [lane.attempt for lane in others] == [1, 1]


def test_a_handler_that_does_not_conflate_gets_everything(partition: Partition) -> None:
    fill(partition, "m1", "m2", "m3", route=BOTH)
    found = partition.lanes("mail").claim(lanes=9, jobs=9, per_lane=9)
    assert [job.job.seq for job in found.lanes[0].jobs] == [1, 2, 3]
