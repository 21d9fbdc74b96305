"""Lanes that a person has to let on: nobody's, never due, in nobody's way, and seen."""

from __future__ import annotations

from tests.store_kit import Partition, change
from worker.store.lanes import Claim, Due, due
from worker.store.look import look


def block(partition: Partition, *lanes: str, at: float | str = "+inf") -> None:
    """As settling and operators do; ``at`` is the time that the lane has in the sorted set."""
    for lane in lanes:
        partition.client.hset(partition.keys.blocked("crm"), lane, '{"why": "paused", "at": 1, "by": "me"}')
        if partition.client.zscore(partition.keys.ready("crm"), lane) is not None:
            partition.client.zadd(partition.keys.ready("crm"), {lane: at})


def claim(partition: Partition, lanes: int = 9) -> Claim:
    return partition.lanes().claim(lanes=lanes, jobs=99, per_lane=99)


def score(partition: Partition, lane: str) -> float | None:
    found: float | None = partition.client.zscore(partition.keys.ready("crm"), lane)
    return found


def test_a_blocked_lane_is_never_due_and_announces_nothing(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    block(partition, "a")
    partition.client.delete(partition.keys.runner_bell("crm"))
    assert due(partition.scripts, partition.keys, ["crm"]) == Due(1, sequencer=False, handlers=[], in_ms=None)
    found = claim(partition)
    assert (found.lanes, found.more, found.next_due) == ([], False, None)
    assert partition.balanced("crm").handlers["crm"].waiting == 1


def test_a_lane_that_became_due_though_it_is_blocked_is_put_aside(partition: Partition) -> None:
    """Its owner died; or it had no job when it was blocked, and now got one."""
    partition.sequence(change("a", 1), change("b", 1))
    crashed = claim(partition, 1)
    assert [lane.lane for lane in crashed.lanes] == ["a"]
    block(partition, "a", at=1)
    found = claim(partition)
    assert ([lane.lane for lane in found.lanes], found.more) == (["b"], False)
    assert score(partition, "a") == float("inf")
    block(partition, "c")
    partition.sequence(change("c", 1))
    assert claim(partition).lanes == []
    assert score(partition, "c") == float("inf")


def test_a_crash_is_remembered_until_the_lane_is_let_on(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    assert claim(partition).lanes[0].attempt == 1
    block(partition, "a", at=1)
    assert claim(partition).lanes == []
    partition.client.hdel(partition.keys.blocked("crm"), "a")
    partition.expire_claims()
    (lane,) = claim(partition).lanes
    assert (lane.attempt, lane.crashed) == (1, True)  # the first time, nobody knows that this job was to blame


def test_many_blocked_lanes_hide_none_that_is_due(partition: Partition) -> None:
    names = [f"t{number:03d}" for number in range(200)]
    partition.sequence(*(change(name, 1) for name in names))
    block(partition, *names[::2], at=1)
    assert [len(claim(partition, 60).lanes) for _ in range(3)] == [60, 40, 0]
    claimed = partition.client.hkeys(partition.keys.claims("crm"))
    assert sorted(name.decode() for name in claimed) == names[1::2]


def test_one_claim_puts_a_bounded_number_aside(partition: Partition) -> None:
    partition.sequence(*(change(f"t{number:03d}", 1) for number in range(300)), count=1000)
    block(partition, *(f"t{number:03d}" for number in range(300)), at=1)
    assert (claim(partition, 1).more, claim(partition, 1).more) == (True, False)


def test_the_look_counts_them_by_themselves(partition: Partition) -> None:
    partition.sequence(*(change(name, 1) for name in "abc"))
    claim(partition, 1)
    block(partition, "a", "b", "no-job-now")
    crm = look(partition.scripts, partition.keys, ["crm"]).handlers["crm"]
    assert (crm.lanes, crm.due, crm.claimed, crm.backing_off, crm.stopped, crm.blocked) == (3, 1, 0, 0, 2, 3)
    block(partition, "c")
    crm = look(partition.scripts, partition.keys, ["crm"]).handlers["crm"]
    assert (crm.due, crm.overdue_ms) == (0, None)


def test_a_claim_says_how_many_jobs_wait_in_the_lane(partition: Partition) -> None:
    partition.sequence(*(change("a", seq) for seq in range(1, 6)))
    found = partition.lanes().claim(lanes=1, jobs=2, per_lane=2)
    assert [(len(lane.jobs), lane.waiting) for lane in found.lanes] == [(2, 5)]
