"""A sequencer that lost its lease writes nothing, at whatever step it notices; a commit is all or nothing."""

from __future__ import annotations

import pytest
import redis

from tests.store_kit import PATIENT, Partition, change, other, to
from worker.core.sequencing import Plan
from worker.errors import LeaseLost
from worker.store.batch import Batch
from worker.store.lanes import Action, Settlement
from worker.store.sequence import Lease

FOR_ALL = to("crm", "mail")

ON_A_CLUSTER = True


def fill(partition: Partition) -> None:
    """Something of every kind for a commit to write: released, held, unheld, duplicate, quarantined, proven."""
    partition.sequence(change("a", 1), change("a", 2), change("b", 1), change("c", 7), policy=PATIENT)
    partition.client.xadd(partition.keys.inbox, {"proof": 7, "t": "c"})
    partition.append(change("a", 1), change("a", 3, assignee="m3"), change("b", 3), other("d", 1), b"nonsense")


def prepare(partition: Partition) -> tuple[Lease, Batch, Plan]:
    fill(partition)
    lease = partition.acquire()
    batch, decided = partition.prepare(lease, policy=PATIENT)
    assert decided.duplicates
    assert decided.quarantined
    assert decided.proofs
    assert decided.held
    assert decided.unheld
    assert decided.released
    return lease, batch, decided


def commit(partition: Partition, lease: Lease, batch: Batch, decided: Plan) -> None:
    partition.store.commit(lease, batch, decided, FOR_ALL, 100)


def test_a_commit_after_the_lease_ran_out_writes_nothing(partition: Partition) -> None:
    lease, batch, decided = prepare(partition)
    partition.expire_lease()
    before = partition.dump()
    with pytest.raises(LeaseLost):
        commit(partition, lease, batch, decided)
    assert partition.dump() == before


def test_a_commit_under_another_owners_lease_writes_nothing_and_does_not_renew_it(partition: Partition) -> None:
    lease, batch, decided = prepare(partition)
    partition.expire_lease()
    partition.acquire()
    partition.client.pexpire(partition.keys.lease, 1500)
    before = partition.dump()
    with pytest.raises(LeaseLost):
        commit(partition, lease, batch, decided)
    assert partition.dump() == before
    assert partition.client.pttl(partition.keys.lease) <= 1500


def test_a_commit_after_another_owner_did_the_work_writes_nothing(partition: Partition) -> None:
    lease, batch, decided = prepare(partition)
    partition.expire_lease()
    other_owner = partition.acquire()
    partition.step(other_owner, FOR_ALL, policy=PATIENT)
    partition.store.release(other_owner, hand_on=False)
    before = partition.dump()
    with pytest.raises(LeaseLost):
        commit(partition, lease, batch, decided)
    assert partition.dump() == before
    partition.balanced()


def test_a_release_without_the_lease_takes_nobody_elses(partition: Partition) -> None:
    lease = partition.acquire()
    partition.expire_lease()
    partition.acquire()
    before = partition.dump()
    for hand_on in (False, True):
        with pytest.raises(LeaseLost):
            partition.store.release(lease, hand_on=hand_on)
    assert partition.dump() == before


def test_a_commit_renews_the_lease(partition: Partition) -> None:
    lease, batch, decided = prepare(partition)
    partition.client.pexpire(partition.keys.lease, 1500)
    commit(partition, lease, batch, decided)
    assert partition.client.pttl(partition.keys.lease) > 1500


def test_a_commit_moves_the_cursor_of_the_server_and_of_the_lease(partition: Partition) -> None:
    """Whoever comes next begins where this one ended, and not before."""
    lease, batch, decided = prepare(partition)
    commit(partition, lease, batch, decided)
    assert lease.cursor == batch.deliveries[-1][0]
    assert partition.prepare(lease)[0].deliveries == []
    partition.store.release(lease, hand_on=False)
    assert partition.acquire().cursor == lease.cursor


def test_a_refused_commit_leaves_the_leases_cursor(partition: Partition) -> None:
    lease, batch, decided = prepare(partition)
    partition.expire_lease()
    cursor = lease.cursor
    with pytest.raises(LeaseLost):
        commit(partition, lease, batch, decided)
    assert lease.cursor == cursor


def test_the_learnt_lateness_goes_with_the_lease(partition: Partition) -> None:
    lease, batch, decided = prepare(partition)
    commit(partition, lease, batch, decided)
    partition.store.release(lease, hand_on=False)
    assert partition.acquire().lateness.counts == lease.lateness.dump()
    assert sum(lease.lateness.counts) > 1


def test_a_commit_that_fails_half_way_loses_nothing(partition: Partition) -> None:
    """Scripts are not rolled back. What no healthy server does, a key of another type, may double a job when the batch
    is tried again; it must not make an event look finished that is not."""
    partition.append(change("a", 1))
    lease = partition.acquire()
    batch, decided = partition.prepare(lease)
    partition.client.set(partition.keys.refs, "not a hash")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        commit(partition, lease, batch, decided)
    assert not [name for name in partition.names() if name.startswith("seen:")]
    assert partition.client.hget(partition.keys.state, "cursor") is None
    partition.client.delete(partition.keys.refs)
    partition.step(lease, FOR_ALL)
    claim = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    assert claim.lanes[0].jobs[0].body == change("a", 1)


def test_a_settlement_by_a_former_owner_is_refused_and_writes_nothing(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2), route=FOR_ALL)
    late = partition.lanes().claim(lanes=1, jobs=1, per_lane=1).token
    partition.expire_claims()
    partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    before = partition.dump()
    for action in Action:
        for counts in ((0, 0), (1, 0), (0, 1), (2, 0)):
            answer = partition.lanes().settle(
                [Settlement(late, "a", *counts, action, 5, 3, (), "Error", "text")],
            )
            assert answer == {}
    assert partition.dump() == before


def test_a_settlement_of_a_lane_that_waits_between_attempts_is_refused(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    token = partition.lanes().claim(lanes=1, jobs=1, per_lane=1).token
    partition.lanes().settle([Settlement(token, "a", action=Action.RETRY, delay_ms=9000, attempts=1)])
    before = partition.dump()
    assert partition.lanes().settle([Settlement(token, "a", done=1)]) == {}
    assert partition.dump() == before


def test_one_lost_lane_does_not_keep_others_from_being_settled(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("b", 1), route=FOR_ALL)
    token = partition.lanes().claim(lanes=2, jobs=2, per_lane=1).token
    answers = partition.lanes().settle([Settlement(token - 1, "a", done=1), Settlement(token, "b", done=1)])
    assert answers == {"b": False}
    assert partition.seqs_in("crm", "a") == [1]
    partition.balanced()


def test_a_renewal_of_a_lane_that_is_gone_or_anothers_says_so_and_changes_nothing(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("b", 1))
    token = partition.lanes().claim(lanes=2, jobs=2, per_lane=1).token
    partition.lanes().settle([Settlement(token, "b", done=1)])
    before = partition.dump()
    assert partition.lanes().renew([(token - 1, "a"), (token, "b"), (token, "never")]) == ["a", "b", "never"]
    assert partition.dump() == before
