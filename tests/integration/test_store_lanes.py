"""Lanes on a real server: who runs what, in which order, and what an outcome leaves behind."""

from __future__ import annotations

from tests.store_kit import Partition, change, other, to
from worker.store.lanes import LEASE_MS, Action, Attempt, Claim, Settlement


def claim(partition: Partition, handler: str = "crm", *, lanes: int = 9, jobs: int = 99, per_lane: int = 99) -> Claim:
    return partition.lanes(handler).claim(lanes=lanes, jobs=jobs, per_lane=per_lane)


def seqs(claimed: Claim) -> dict[str, list[int]]:
    return {lane.lane: [job.job.seq for job in lane.jobs] for lane in claimed.lanes}


def fill(partition: Partition, **lanes: int) -> None:
    """So many jobs in each lane."""
    partition.sequence(*(change(team, seq) for team, count in lanes.items() for seq in range(1, count + 1)))


def test_jobs_come_in_order_with_their_bodies(partition: Partition) -> None:
    fill(partition, a=3, b=2)
    found = claim(partition)
    assert seqs(found) == {"a": [1, 2, 3], "b": [1, 2]}
    assert [job.body for job in found.lanes[0].jobs] == [change("a", seq) for seq in (1, 2, 3)]
    assert (found.more, [lane.attempt for lane in found.lanes]) == (False, [0, 0])


def test_a_claimed_lane_is_nobody_elses(partition: Partition) -> None:
    fill(partition, a=3, b=1)
    first, second, third = (claim(partition, lanes=1, per_lane=1) for _ in range(3))
    assert [seqs(found) for found in (first, second, third)] == [{"a": [1]}, {"b": [1]}, {}]
    assert [found.more for found in (first, second, third)] == [True, False, False]


def test_a_claim_says_when_the_next_lane_is_due(partition: Partition) -> None:
    fill(partition, a=1)
    first = claim(partition)
    assert claim(partition).next_due == first.now + LEASE_MS
    partition.lanes().settle([Settlement(first.token, "a", done=1)])
    assert claim(partition).next_due is None


def test_a_claim_is_bounded_by_lanes_by_jobs_and_by_jobs_of_a_lane(partition: Partition) -> None:
    fill(partition, a=5, b=5, c=5)
    assert seqs(claim(partition, lanes=1, per_lane=2)) == {"a": [1, 2]}
    found = claim(partition, jobs=4, per_lane=3)
    assert seqs(found) == {"b": [1, 2, 3], "c": [1]}
    assert not found.more


def test_what_is_done_leaves_the_lane_and_the_rest_is_due_at_once(partition: Partition) -> None:
    fill(partition, a=4)
    first = claim(partition, per_lane=3)
    assert partition.lanes().settle([Settlement(first.token, "a", done=1, discarded=1)]) == {"a": True}
    assert seqs(claim(partition)) == {"a": [3, 4]}
    books = partition.balanced().handlers["crm"]
    assert (books.done, books.discarded, books.waiting) == (1, 1, 2)


def test_a_lane_that_is_empty_leaves_no_key(partition: Partition) -> None:
    fill(partition, a=2)
    first = claim(partition, per_lane=1)
    partition.lanes().settle(
        [Settlement(first.token, "a", action=Action.RETRY, attempts=1, failed=[Attempt(1, 1, "E", "e")])]
    )
    partition.expire_claims()
    second = claim(partition)
    assert partition.lanes().settle([Settlement(second.token, "a", done=1)]) == {"a": True}
    third = claim(partition)
    assert partition.lanes().settle([Settlement(third.token, "a", done=1)]) == {"a": False}
    left = {name.split(":")[0] for name in partition.names()}
    assert not left & {"lane", "ready", "claims", "trouble", "refs"}
    assert partition.client.xlen(partition.keys.inbox) == 0


def test_renewal_keeps_a_lane(partition: Partition) -> None:
    fill(partition, a=1)
    first = claim(partition)
    partition.expire_claims()
    assert partition.lanes().renew([(first.token, "a")]) == []
    assert seqs(claim(partition)) == {}
    assert partition.client.zscore(partition.keys.ready("crm"), "a") >= first.now + LEASE_MS


def test_hold_settles_what_is_done_and_keeps_the_rest_claimed(partition: Partition) -> None:
    fill(partition, a=4)
    first = claim(partition)
    partition.expire_claims()
    assert partition.lanes().settle([Settlement(first.token, "a", 2, 0, Action.HOLD)]) == {"a": True}
    assert seqs(claim(partition)) == {}
    assert partition.seqs_in("crm", "a") == [3, 4]
    assert partition.lanes().settle([Settlement(first.token, "a", done=2)]) == {"a": False}
    partition.balanced()


def test_hold_of_all_that_was_claimed_keeps_the_lane_until_it_is_let_go(partition: Partition) -> None:
    """A thread may have finished its jobs without having said so; more jobs may have come meanwhile."""
    fill(partition, a=1)
    first = claim(partition)
    assert partition.lanes().settle([Settlement(first.token, "a", 1, 0, Action.HOLD)]) == {"a": False}
    partition.sequence(change("a", 2))
    assert seqs(claim(partition)) == {}
    assert partition.lanes().settle([Settlement(first.token, "a")]) == {"a": True}
    assert seqs(claim(partition)) == {"a": [2]}


def test_an_empty_lane_whose_holder_died_is_cleared_away(partition: Partition) -> None:
    fill(partition, a=1)
    first = claim(partition)
    partition.lanes().settle([Settlement(first.token, "a", 1, 0, Action.HOLD)])
    partition.expire_claims()
    assert seqs(claim(partition)) == {}
    assert not partition.client.exists(*(getattr(partition.keys, name)("crm") for name in ("ready", "claims")))


def test_a_retry_waits_and_then_comes_alone_with_its_history(partition: Partition) -> None:
    fill(partition, a=3)
    first = claim(partition)
    history = [Attempt(1, 123, "ValueError", "no such member")]
    partition.lanes().settle(
        [Settlement(first.token, "a", 1, 0, Action.RETRY, delay_ms=7000, attempts=1, failed=history)]
    )
    waiting = claim(partition)
    assert seqs(waiting) == {}
    assert waiting.next_due is not None
    assert first.now + 7000 <= waiting.next_due <= waiting.now + 7000
    partition.expire_claims()
    again = claim(partition)
    assert seqs(again) == {"a": [2]}
    assert (again.lanes[0].attempt, again.lanes[0].crashed, again.lanes[0].failed) == (2, False, history)
    assert partition.balanced().handlers["crm"].retried == 1


def test_trouble_ends_with_its_job(partition: Partition) -> None:
    for outcome in (
        Settlement(0, "a", done=1),
        Settlement(0, "a", discarded=1),
        Settlement(0, "a", action=Action.BURY),
    ):
        partition.client.flushdb()
        fill(partition, a=3)
        first = claim(partition)
        partition.lanes().settle(
            [Settlement(first.token, "a", action=Action.RETRY, attempts=1, failed=[Attempt(1, 1, "E", "e")])]
        )
        again = claim(partition)
        partition.lanes().settle(
            [Settlement(again.token, "a", outcome.done, outcome.discarded, outcome.action, 0, 2, (), "E", "e")]
        )
        assert not partition.client.exists(partition.keys.trouble("crm"))
        fresh = claim(partition)
        assert seqs(fresh) == {"a": [2, 3]}
        assert (fresh.lanes[0].attempt, fresh.lanes[0].failed) == (0, ())


def test_a_dead_letter_has_all_that_a_person_needs(partition: Partition) -> None:
    partition.append(other("", 1, event_id="e1"), team="a")
    partition.sequence(route=to("crm", "mail"))
    first = claim(partition)
    history = [Attempt(1, 5, "E", "one"), Attempt(2, 6, "E", "two")]
    answer = partition.lanes().settle(
        [Settlement(first.token, "a", 0, 0, Action.BURY, attempts=2, failed=history, error="E", text="two")]
    )
    assert answer == {"a": False}
    ((_, flat),) = partition.client.xrange(partition.keys.dead)
    letter = dict(zip(flat[::2], flat[1::2], strict=True))
    assert letter.pop(b"job").split(b" ")[3] == b"1"
    assert letter == {
        b"handler": b"crm",
        b"lane": b"a",
        b"attempts": b"2",
        b"trouble": b'[[1,5,"E","one",0],[2,6,"E","two",0]]',
        b"error": b"E",
        b"text": b"two",
    }
    books = partition.balanced()
    assert (books.dead, books.handlers["crm"].dead, books.in_stream) == (1, 1, 1)  # mail still needs the body
    mail = claim(partition, "mail")
    assert mail.lanes[0].jobs[0].body == other("", 1, event_id="e1")
    partition.lanes("mail").settle([Settlement(mail.token, "a", done=1)])
    books = partition.balanced()
    assert (books.in_stream, books.waiting) == (1, 0)  # the dead letter still needs the body


def test_a_lane_goes_on_after_its_dead_letter(partition: Partition) -> None:
    fill(partition, a=3)
    first = claim(partition)
    assert partition.lanes().settle([Settlement(first.token, "a", 1, 0, Action.BURY)]) == {"a": True}
    assert seqs(claim(partition)) == {"a": [3]}
    partition.balanced()


def test_handing_back_unstarted_takes_the_attempt_back(partition: Partition) -> None:
    """As often as one likes: what did not take place is not counted, and what did is not forgotten."""
    fill(partition, a=2)
    history: list[Attempt] = []
    for attempt in (1, 2):
        for _ in range(3):
            found = claim(partition, per_lane=1)
            assert (found.lanes[0].attempt, list(found.lanes[0].failed)) == (attempt, history)
            returned = Settlement(found.token, "a", 0, 0, Action.RETURN, 0, attempt - 1, history)
            partition.lanes().settle([returned])
        found = claim(partition, per_lane=1)
        history = [*history, Attempt(attempt, 1, "E", "e")]
        partition.lanes().settle([Settlement(found.token, "a", 0, 0, Action.RETRY, 0, attempt, history)])
    assert partition.balanced().handlers["crm"].retried == 2


def test_a_lane_handed_back_before_its_first_attempt_is_as_if_never_claimed(partition: Partition) -> None:
    fill(partition, a=3)
    found = claim(partition, per_lane=1)
    partition.lanes().settle([Settlement(found.token, "a", action=Action.RETURN)])
    assert seqs(claim(partition)) == {"a": [1, 2, 3]}


def test_claiming_answers_the_bell(partition: Partition) -> None:
    fill(partition, a=1)
    assert partition.client.exists(partition.keys.runner_bell("crm"))
    claim(partition)
    assert not partition.client.exists(partition.keys.runner_bell("crm"))


def test_handlers_have_lanes_of_their_own(partition: Partition) -> None:
    partition.sequence(change("a", 1), route=to("crm", "mail"))
    crm = claim(partition, "crm")
    partition.lanes("crm").settle([Settlement(crm.token, "a", action=Action.RETRY, delay_ms=60_000, attempts=1)])
    assert seqs(claim(partition, "mail")) == {"a": [1]}
    assert partition.client.hget(partition.keys.refs, partition.client.xrange(partition.keys.inbox)[0][0]) == b"2"


def test_a_lane_handed_back_remembers_failures_that_were_not_counted(partition: Partition) -> None:
    """As those are that come behind an open circuit: since when, and that it may have taken effect."""
    partition.sequence(change("a", 1), change("a", 2))
    lanes, failed = partition.lanes(), [Attempt(1, 5, "Down", "", since=5)]
    token = lanes.claim(lanes=1, jobs=1, per_lane=1).token
    lanes.settle([Settlement(token, "a", action=Action.RETRY, attempts=0, failed=failed)])
    for _ in range(2):
        claim = lanes.claim(lanes=1, jobs=9, per_lane=9)
        assert [(lane.attempt, lane.failed, len(lane.jobs)) for lane in claim.lanes] == [(1, failed, 1)]
        lanes.settle([Settlement(claim.token, "a", action=Action.RETURN, attempts=0, failed=failed)])
