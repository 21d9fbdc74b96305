"""What the sweeper is told of a partition: whatever is due and has nobody on the way to it."""

from __future__ import annotations

from tests.store_kit import HANDLERS, PATIENT, Partition, change, to
from worker.store.lanes import LEASE_MS, Action, Due, Settlement, due

ON_A_CLUSTER = True


def ask(partition: Partition) -> Due:
    return due(partition.scripts, partition.keys, HANDLERS)


def forget_bells(partition: Partition) -> None:
    """As time does: every bell that was rung is taken for lost."""
    partition.client.delete(partition.keys.bell, *map(partition.keys.runner_bell, HANDLERS))


def test_nothing_is_due_in_an_empty_partition(partition: Partition) -> None:
    assert ask(partition) == Due(1, sequencer=False, handlers=[], in_ms=None)
    assert partition.names() == set()


def test_unread_deliveries_are_due_and_rung_for_once(partition: Partition) -> None:
    partition.append(change("a", 1))
    assert ask(partition).sequencer
    assert not ask(partition).sequencer
    assert 0 < partition.client.pttl(partition.keys.bell) <= 2000
    forget_bells(partition)
    assert ask(partition).sequencer


def test_what_is_read_and_still_stored_is_not_due(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("b", 5), policy=PATIENT)
    assert not ask(partition).sequencer


def test_a_sequencer_at_work_is_not_rung_for(partition: Partition) -> None:
    partition.append(change("a", 1))
    partition.acquire()
    forget_bells(partition)
    assert not ask(partition).sequencer
    assert not partition.client.exists(partition.keys.bell)
    partition.expire_lease()
    assert ask(partition).sequencer


def test_a_gap_is_due_when_its_wait_is_over_and_announced_before(partition: Partition) -> None:
    partition.sequence(change("a", 5), policy=PATIENT)
    answer = ask(partition)
    assert not answer.sequencer
    assert answer.in_ms is not None
    assert 3_590_000 < answer.in_ms <= 3_600_000
    partition.client.zadd(partition.keys.gaps, {"a": 1})
    assert ask(partition).sequencer


def test_ready_lanes_are_due_each_handler_by_itself(partition: Partition) -> None:
    partition.sequence(change("a", 1), route=to("mail", "audit"))
    assert ask(partition).handlers == []  # the commit's bells are on their way
    forget_bells(partition)
    assert ask(partition).handlers == ["mail", "audit"]
    assert ask(partition).handlers == []
    partition.client.delete(partition.keys.runner_bell("mail"))
    assert ask(partition).handlers == ["mail"]


def test_a_claimed_lane_is_due_when_its_lease_has_run_out(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    answer = ask(partition)
    assert answer.handlers == []
    assert answer.in_ms is not None
    assert 0 < answer.in_ms <= LEASE_MS
    partition.expire_claims()
    assert ask(partition).handlers == ["crm"]


def test_a_retry_is_due_when_its_delay_is_over(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    claim = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    partition.lanes().settle([Settlement(claim.token, "a", action=Action.RETRY, delay_ms=60_000, attempts=1)])
    answer = ask(partition)
    assert (answer.handlers, answer.in_ms is not None and 50_000 < answer.in_ms <= 60_000) == ([], True)
    partition.expire_claims()
    assert ask(partition).handlers == ["crm"]


def test_the_soonest_of_all_that_is_not_due_yet_is_announced(partition: Partition) -> None:
    partition.sequence(change("a", 5), policy=PATIENT)
    partition.sequence(change("b", 1), route=to("crm", "mail"))
    for handler, delay in (("crm", 20_000), ("mail", 40_000)):
        claim = partition.lanes(handler).claim(lanes=9, jobs=9, per_lane=1)
        partition.lanes(handler).settle([Settlement(claim.token, "b", action=Action.RETRY, delay_ms=delay, attempts=1)])
    answer = ask(partition)
    assert answer.in_ms is not None
    assert 10_000 < answer.in_ms <= 20_000


def test_a_lane_that_is_due_does_not_hide_one_that_will_be(partition: Partition) -> None:
    """Only a handler's first lane is looked at: while that one is due, the bell is rung and nothing waits."""
    partition.sequence(change("a", 1))
    forget_bells(partition)
    answer = ask(partition)
    assert (answer.handlers, answer.in_ms) == (["crm"], None)
