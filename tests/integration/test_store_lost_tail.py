"""A server that lacks the last writes: a replica that was promoted too early, or one that came back from an old file.

What is lost is a tail: all that was written before some moment is there, and nothing that was written after it. Whoever
wrote the tail goes on as if it were there, and must not be believed.
"""

from __future__ import annotations

import pytest

from tests.store_kit import Partition, change
from worker.errors import LeaseLost
from worker.store.lanes import Action, Settlement

ON_A_CLUSTER = True


def deliver_rest(partition: Partition) -> list[int]:
    """Sequence and run all that there is, once whoever was at it has lost its leases; the seqs in order."""
    partition.expire_lease()
    partition.sequence()
    partition.expire_claims()
    seqs: list[int] = []
    while (claim := partition.lanes().claim(lanes=10, jobs=100, per_lane=100)).lanes:
        for lane in claim.lanes:
            seqs += [job.job.seq for job in lane.jobs]
            partition.lanes().settle([Settlement(claim.token, lane.lane, done=len(lane.jobs))])
    return seqs


def test_a_lease_that_was_lost_is_not_given_to_two(partition: Partition) -> None:
    """A counter of the server's would count on from where it was, and give the second owner the first one's token."""
    before = partition.remember()
    first = partition.acquire()
    partition.forget_since(before)
    second = partition.acquire()
    assert second.token != first.token
    entries = partition.append(change("a", 1))
    prepared = partition.prepare(first)
    with pytest.raises(LeaseLost):
        partition.step(first)
    assert [delivery[0] for delivery in prepared[0].deliveries] == entries
    partition.step(second)
    partition.balanced()


def test_what_the_owner_had_committed_is_read_again(partition: Partition) -> None:
    """The lease was copied and the commit was not: the next commit would set the cursor past what nobody has."""
    partition.append(change("a", 1), change("a", 2))
    lease = partition.acquire()
    before = partition.remember()
    partition.step(lease, count=1)
    partition.forget_since(before)
    with pytest.raises(LeaseLost):
        partition.step(lease, count=1)
    partition.balanced()
    assert deliver_rest(partition) == [1, 2]
    partition.balanced()


def test_a_commit_that_has_only_due_teams_builds_on_the_last_one_as_well(partition: Partition) -> None:
    partition.append(change("a", 1), change("a", 9))
    lease = partition.acquire()
    before = partition.remember()
    partition.step(lease)
    partition.forget_since(before)
    with pytest.raises(LeaseLost):
        partition.step(lease, count=1)
    assert deliver_rest(partition) == [1, 9]


def test_deliveries_that_were_read_and_lost_are_not_released(partition: Partition) -> None:
    """There is no body for them any more: each would be a job that can only be given up."""
    partition.append(change("a", 1))
    lease = partition.acquire()
    partition.step(lease)
    before = partition.remember()
    partition.append(change("a", 2))
    batch, decided = partition.prepare(lease)
    partition.forget_since(before)
    with pytest.raises(LeaseLost):
        partition.store.commit(lease, batch, decided, lambda _type, _change: [], 100)
    partition.append(change("a", 2, event_id="again"))
    assert deliver_rest(partition) == [1, 2]
    partition.balanced()


def test_a_claim_that_was_lost_is_not_held_by_two(partition: Partition) -> None:
    partition.sequence(*(change("a", seq) for seq in (1, 2, 3)))
    before = partition.remember()
    first = partition.lanes().claim(lanes=1, jobs=3, per_lane=3)
    partition.forget_since(before)
    second = partition.lanes().claim(lanes=1, jobs=3, per_lane=3)
    assert [lane.lane for lane in second.lanes] == [lane.lane for lane in first.lanes]
    assert partition.lanes().settle([Settlement(first.token, "a", done=3)]) == {}
    assert partition.lanes().renew([(first.token, "a")]) == ["a"]
    assert partition.seqs_in("crm", "a") == [1, 2, 3]


@pytest.mark.parametrize("end", [Action.RELEASE, Action.BURY, Action.RETRY, Action.HOLD])
def test_a_settlement_that_builds_on_a_lost_one_is_refused(partition: Partition, end: Action) -> None:
    """It counts jobs from the head of the lane, and those are others now."""
    partition.sequence(*(change("a", seq) for seq in (1, 2, 3)))
    lanes = partition.lanes()
    claim = lanes.claim(lanes=1, jobs=3, per_lane=3)
    before = partition.remember()
    assert lanes.settle([Settlement(claim.token, "a", done=1, action=Action.HOLD)]) == {"a": True}
    partition.forget_since(before)
    assert lanes.settle([Settlement(claim.token, "a", done=1, action=end, attempts=1)]) == {}
    assert deliver_rest(partition) == [1, 2, 3]
    partition.balanced()


def test_settlements_go_on_while_nothing_is_lost(partition: Partition) -> None:
    partition.sequence(*(change("a", seq) for seq in range(1, 6)))
    lanes = partition.lanes()
    claim = lanes.claim(lanes=1, jobs=5, per_lane=5)
    for _ in range(4):
        assert lanes.settle([Settlement(claim.token, "a", done=1, action=Action.HOLD)]) == {"a": True}
        assert lanes.renew([(claim.token, "a")]) == []
    assert lanes.settle([Settlement(claim.token, "a", done=1)]) == {"a": False}
    partition.balanced()


def test_a_settlement_sent_twice_is_written_once(partition: Partition) -> None:
    """Its answer may be all that was lost."""
    partition.sequence(*(change("a", seq) for seq in (1, 2, 3)))
    lanes = partition.lanes()
    claim = lanes.claim(lanes=1, jobs=3, per_lane=3)
    words = Settlement(claim.token, "a", done=1, action=Action.HOLD).words(0)
    for answer in (1, -1):
        assert partition.scripts.run("settle", lanes._settle_keys, [4000, "crm", *words]) == [answer]
    assert partition.seqs_in("crm", "a") == [2, 3]


def test_a_compaction_that_was_lost_is_not_built_upon(partition: Partition) -> None:
    from worker.core.dispatch import Terms

    route = [Terms("crm", conflate=True)]
    moves = [change("a", seq, assignee=f"m{seq}") for seq in (1, 2, 3)]
    partition.sequence(*moves, route=lambda _type, _change: route)
    lanes = partition.lanes(conflate=True)
    claim_alone = partition.remember()
    claim = lanes.claim(lanes=1, jobs=1, per_lane=1)
    assert claim.lanes[0].waiting == 1
    compacted = partition.remember()
    held = compacted[partition.keys.claims("crm")]
    partition.forget_since(claim_alone)
    partition.client.restore(partition.keys.claims("crm"), held[1], held[0])
    partition.client.hset(partition.keys.claims("crm"), "a", f"{claim.token} 1 1 0")  # as it was claimed
    assert lanes.settle([Settlement(claim.token, "a", done=1)]) == {}
    assert partition.seqs_in("crm", "a") == [1, 2, 3]
