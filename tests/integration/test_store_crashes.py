"""Processes that die with lanes in their hands: who pays for it with an attempt, and who must not."""

from __future__ import annotations

from tests.store_kit import Partition, change
from worker.store.lanes import Action, Claim, Settlement


def claim(partition: Partition, *, lanes: int = 64, jobs: int = 99, per_lane: int = 99) -> Claim:
    return partition.lanes().claim(lanes=lanes, jobs=jobs, per_lane=per_lane)


def crash(partition: Partition, **bounds: int) -> Claim:
    """Claim, and be gone: the leases run out."""
    found = claim(partition, **bounds)
    partition.expire_claims()
    return found


def fill(partition: Partition, **lanes: int) -> None:
    partition.sequence(*(change(team, seq) for team, count in lanes.items() for seq in range(1, count + 1)))


def test_after_a_crash_the_lane_comes_back_job_by_job(partition: Partition) -> None:
    """So that the next crash is known to be the first job's."""
    fill(partition, a=3)
    crash(partition)
    (lane,) = claim(partition).lanes
    assert ([job.job.seq for job in lane.jobs], lane.crashed, lane.attempt) == ([1], True, 1)


def test_a_job_that_kills_its_process_runs_out_of_attempts(partition: Partition) -> None:
    fill(partition, a=2)
    crash(partition)
    assert [crash(partition).lanes[0].attempt for _ in range(4)] == [1, 2, 3, 4]


def test_the_second_job_of_a_lane_pays_for_itself(partition: Partition) -> None:
    """Those claimed with it come one by one too; after them the lane is claimed whole again."""
    fill(partition, a=5)
    crash(partition, per_lane=3)
    taken = []
    for _ in range(3):
        found = claim(partition)
        taken.append(([job.job.seq for job in found.lanes[0].jobs], found.lanes[0].attempt))
        partition.lanes().settle([Settlement(found.token, "a", done=1)])
    assert taken == [([1], 1), ([2], 1), ([3], 1)]
    whole = claim(partition)
    assert ([job.job.seq for job in whole.lanes[0].jobs], whole.lanes[0].attempt) == ([4, 5], 0)


def test_a_late_settlement_after_a_crash_is_refused_and_the_jobs_run_again(partition: Partition) -> None:
    fill(partition, a=2)
    slow = crash(partition)
    second = claim(partition)
    assert partition.lanes().settle([Settlement(slow.token, "a", done=2)]) == {}
    assert partition.lanes().settle([Settlement(second.token, "a", done=1)]) == {"a": True}
    assert partition.seqs_in("crm", "a") == [2]
    partition.balanced()


def test_lanes_that_were_claimed_beside_a_poisonous_one_do_not_pay_for_it(partition: Partition) -> None:
    """64 lanes are claimed at once and run one after another. Whatever waits behind the job that kills the process was
    never started: were it to lose an attempt each time, one poisonous job would bury those of all the lanes after it.
    """
    fill(partition, a=1, b=1, c=1)
    attempts: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for _ in range(12):
        found = claim(partition)
        for lane in found.lanes:
            attempts[lane.lane].append(lane.attempt)
            if lane.lane == "b":
                # The process dies here: "b" is never settled, nor are those behind it.
                partition.client.zadd(partition.keys.ready("crm"), {left.lane: 1 for left in found.lanes}, xx=True)
                break
            partition.lanes().settle([Settlement(found.token, lane.lane, done=1)])
    assert (attempts["a"], attempts["c"]) == ([1], [])
    assert attempts["b"] == [1, *range(1, 12)]
    partition.client.zrem(partition.keys.ready("crm"), "b")
    assert [(lane.lane, lane.attempt) for lane in claim(partition).lanes] == [("c", 1)]


def test_a_first_crash_beside_other_lanes_costs_nobody_an_attempt(partition: Partition) -> None:
    """A worker that is killed to be replaced must not use up the only attempt of a handler without retries."""
    fill(partition, a=1, b=1)
    crash(partition)
    assert [(lane.lane, lane.attempt) for lane in claim(partition).lanes] == [("a", 1)]
    assert [(lane.lane, lane.attempt) for lane in claim(partition).lanes] == [("b", 1)]


def test_a_crash_alone_costs_an_attempt(partition: Partition) -> None:
    fill(partition, a=1, b=1)
    crash(partition)
    assert crash(partition).lanes[0].attempt == 1
    partition.client.zrem(partition.keys.ready("crm"), "b")
    assert claim(partition).lanes[0].attempt == 2


def test_jobs_that_were_held_when_the_process_died_have_all_their_attempts(partition: Partition) -> None:
    """Nobody knows which of them was being run."""
    fill(partition, a=4)
    for left in (2, 1):
        found = claim(partition, per_lane=3)
        partition.lanes().settle([Settlement(found.token, "a", 3 - left, 0, Action.HOLD)])
        partition.expire_claims()
        (lane,) = claim(partition).lanes
        assert (lane.attempt, lane.crashed) == (1, True)
        partition.client.flushdb()
        fill(partition, a=4)


def test_a_crash_while_retrying_keeps_the_attempts_before_it(partition: Partition) -> None:
    fill(partition, a=1)
    first = claim(partition)
    partition.lanes().settle([Settlement(first.token, "a", action=Action.RETRY, attempts=1)])
    assert crash(partition).lanes[0].attempt == 2
    assert [crash(partition).lanes[0].attempt for _ in range(2)] == [2, 3]


def test_a_crashed_lane_is_not_claimed_beside_others(partition: Partition) -> None:
    fill(partition, a=1)
    crash(partition)
    partition.sequence(change("b", 1))
    partition.client.zadd(partition.keys.ready("crm"), {"b": 0})
    first, second = claim(partition), claim(partition)
    assert [[lane.lane for lane in found.lanes] for found in (first, second)] == [["b"], ["a"]]
    assert (first.more, second.more) == (True, False)


def test_crashed_lanes_come_one_at_a_time_and_do_not_starve(partition: Partition) -> None:
    fill(partition, a=2, b=2, c=2)
    crash(partition, lanes=3)
    partition.sequence(change("d", 1))
    seen = []
    while (found := claim(partition)).lanes:
        assert found.more is (len(seen) + len(found.lanes) < 4)
        seen += [lane.lane for lane in found.lanes]
    assert seen == ["a", "b", "c", "d"]
