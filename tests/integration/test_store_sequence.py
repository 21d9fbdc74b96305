"""One partition's sequencer on a real server: the lease's protocol, and what a batch leaves behind."""

from __future__ import annotations

import time

import pytest

from tests.store_kit import AT_ONCE, PATIENT, Partition, change, other, to
from worker.core.dispatch import Terms
from worker.store.batch import Batch
from worker.store.lanes import Settlement
from worker.store.scripts import Code

HALF_WINDOW = 12 * 3600 * 1000


def test_one_sequencer_at_a_time(partition: Partition) -> None:
    first = partition.acquire()
    assert partition.store.acquire() is None
    assert partition.store.release(first, hand_on=False) == (Code.DONE, None)
    assert partition.acquire().token != first.token


def test_no_token_is_given_twice_whoever_takes_them(partition: Partition) -> None:
    tokens = []
    for _ in range(3):
        tokens.append(partition.acquire().token)
        partition.expire_lease()
        tokens.append(partition.lanes().claim(lanes=1, jobs=1, per_lane=1).token)
    assert len(set(tokens)) == 6
    assert min(tokens) > 0


def test_the_lease_is_kept_while_there_is_more_to_read(partition: Partition) -> None:
    lease = partition.acquire()
    partition.append(change("a", 1))
    assert partition.store.release(lease, hand_on=False)[0] is Code.MORE
    assert partition.store.acquire() is None
    partition.step(lease)
    assert partition.store.release(lease, hand_on=False)[0] is Code.DONE


def test_a_time_slice_that_is_over_hands_on_with_the_bell_down(partition: Partition) -> None:
    """The caller rings for what is left; nobody else needs to."""
    lease = partition.acquire()
    partition.append(change("a", 1))
    partition.client.delete(partition.keys.bell)  # it does not last as long as a slice may
    assert partition.store.release(lease, hand_on=True) == (Code.HANDED_ON, None)
    assert partition.client.pttl(partition.keys.bell) > 0
    assert partition.acquire().token != lease.token


def test_a_time_slice_that_is_over_with_nothing_left_is_just_over(partition: Partition) -> None:
    assert partition.store.release(partition.acquire(), hand_on=True)[0] is Code.DONE
    assert not partition.client.exists(partition.keys.bell, partition.keys.lease)


def test_letting_go_tells_when_the_next_gap_is_given_up(partition: Partition) -> None:
    entry, _ = partition.append(change("a", 5), change("b", 5))
    lease = partition.acquire()
    partition.step(lease, policy=PATIENT)
    code, deadline = partition.store.release(lease, hand_on=False)
    assert (code, deadline) == (Code.DONE, int(entry.split("-")[0]) + 3_600_000)


def test_a_body_is_stored_once_for_three_handlers_and_goes_with_the_last_job(partition: Partition) -> None:
    partition.sequence(change("a", 1), route=to("crm", "mail", "audit"))
    for left, handler in ((1, "mail"), (1, "crm"), (0, "audit")):
        claim = partition.lanes(handler).claim(lanes=1, jobs=9, per_lane=9)
        (job,) = claim.lanes[0].jobs
        assert job.body == change("a", 1)
        partition.lanes(handler).settle([Settlement(claim.token, "a", done=1)])
        assert partition.client.xlen(partition.keys.inbox) == left
        partition.balanced()
    assert not partition.client.exists(partition.keys.refs)


def test_what_no_handler_wants_is_counted_and_leaves_the_inbox(partition: Partition) -> None:
    crm = [Terms("crm")]
    partition.sequence(change("a", 1), other("a", 2), route=lambda kind, _: crm if kind.startswith("p") else [])
    assert partition.seqs_in("crm", "a") == [1]
    books = partition.balanced()
    assert (books.in_stream, books.ledger["released"], books.ledger["stored"]) == (1, 2, 1)


def test_duplicates_leave_the_inbox_and_reach_no_lane(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 1), change("a", 2))
    partition.sequence(change("a", 2), change("a", 1))
    assert partition.seqs_in("crm", "a") == [1, 2]
    books = partition.balanced()
    assert (books.in_stream, books.ledger["duplicates"]) == (2, 3)


def test_one_id_of_two_teams_is_two_events(partition: Partition) -> None:
    partition.sequence(change("a", 1, event_id="same"), change("b", 1, event_id="same"))
    assert (partition.seqs_in("crm", "a"), partition.seqs_in("crm", "b")) == ([1], [1])


@pytest.mark.parametrize("start", [0, 1, HALF_WINDOW // 2, HALF_WINDOW - 1])
@pytest.mark.parametrize("later", [1, HALF_WINDOW, 2 * HALF_WINDOW])
def test_an_id_is_remembered_for_the_whole_window(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, start: int, later: int
) -> None:
    """Windows begin at multiples of half of it: wherever in one an id was seen, a day later it is still known."""
    clock = Clock(monkeypatch)
    clock.now += start
    partition.sequence(change("a", 1))
    clock.now += later
    partition.sequence(change("a", 1))
    assert partition.books().ledger.get("duplicates", 0) == 1


def test_an_id_is_forgotten_in_the_end(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    partition.sequence(change("a", 1))
    clock.now += 3 * HALF_WINDOW
    partition.sequence(change("a", 1))
    assert partition.books().ledger.get("duplicates", 0) == 0
    assert len([name for name in partition.names() if name.startswith("seen:")]) == 2


def test_windows_teams_and_owners_have_the_life_times_of_the_settings(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    ttl = partition.client.pttl
    memory, window = 90 * 86_400_000, 2 * HALF_WINDOW
    assert 0.99 * memory < ttl(partition.keys.team("a")) <= memory
    assert 0.99 * memory < ttl(partition.keys.owner("a", "p")) <= memory
    (seen,) = (name for name in partition.names() if name.startswith("seen:"))
    assert 0.99 * window < ttl(f"{partition.keys.base}:{seen}") - window <= window


def test_life_times_begin_anew_with_each_event(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    for key in (partition.keys.team("a"), partition.keys.owner("a", "p")):
        partition.client.pexpire(key, 50_000)
    partition.sequence(change("a", 2, assignee="m2"))
    for key in (partition.keys.team("a"), partition.keys.owner("a", "p")):
        assert partition.client.pttl(key) > 50_000


def test_what_can_not_be_read_is_quarantined_as_it_came(partition: Partition) -> None:
    bodies = [b"", b"\xff\xfe", b"[]", b'{"id": "x"}', other("", 1)]
    partition.sequence(*bodies)
    partition.append(other("a", 1), team="b")
    partition.sequence()
    found = partition.client.xrange(partition.keys.quarantine)
    entries = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in found]
    assert [entry[b"b"] for entry in entries] == [*bodies, other("a", 1)]
    assert [entry[b"reason"] for entry in entries] == [
        *(b"not_json", b"not_utf8", b"not_an_event", b"not_an_event", b"no_team", b"team_mismatch")
    ]
    assert entries[-1][b"t"] == b"b"
    assert all(b"t" not in entry for entry in entries[:-1])
    books = partition.balanced()
    assert (books.quarantine, books.in_stream) == (6, 0)


def test_an_entry_of_a_writer_with_other_habits_stops_nothing(partition: Partition) -> None:
    """No body, or a team that is no UTF-8: such an entry must not stop its partition for ever."""
    partition.client.xadd(partition.keys.inbox, {"x": "y"})
    partition.client.xadd(partition.keys.inbox, {"b": change("a", 1), "t": b"\xff"})
    partition.sequence(change("a", 1))
    assert partition.seqs_in("crm", "a") == [1]
    assert partition.balanced().quarantine == 2


def test_held_events_outlive_the_process_that_held_them(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 4, assignee="m4"), change("a", 3, assignee="m3"), policy=PATIENT)
    assert partition.balanced().held == 3  # the first ever of a team waits too: nothing says that it is the first
    partition.sequence(change("a", 2, assignee="m2"), policy=PATIENT)
    assert partition.balanced().held == 4
    partition.client.zadd(partition.keys.gaps, {"a": 1})  # as if an hour had gone by
    partition.sequence(policy=AT_ONCE)
    assert partition.seqs_in("crm", "a") == [1, 2, 3, 4]
    claim = partition.lanes().claim(lanes=1, jobs=9, per_lane=9)
    previous = [job.job.change and job.job.change.previous for job in claim.lanes[0].jobs]
    assert previous == [None, "m1", "m2", "m3"]
    assert not partition.client.exists(partition.keys.gaps, partition.keys.held("a"))


def test_a_held_event_with_numbers_at_the_edge_comes_back_as_it_was(partition: Partition) -> None:
    """A sorted set's score is a double: it holds whole numbers up to 2**53 - 1, the provider's largest, exactly."""
    top = 2**53 - 1
    partition.sequence(*(change("a", seq) for seq in (top, top - 1, top - 2)), policy=PATIENT)
    partition.sequence(policy=AT_ONCE)
    assert partition.balanced().held == 3  # not due yet
    partition.client.zadd(partition.keys.gaps, {"a": 1})
    partition.sequence(policy=AT_ONCE)
    assert partition.seqs_in("crm", "a") == [top - 2, top - 1, top]


def test_a_proof_releases_what_is_held_and_leaves_the_inbox(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 5), policy=PATIENT)
    partition.client.xadd(partition.keys.inbox, {"proof": 5, "t": "a"})
    partition.sequence(policy=PATIENT)
    assert partition.seqs_in("crm", "a") == [1, 5]
    assert partition.balanced().ledger["proofs"] == 1


def test_a_lane_that_waits_or_is_claimed_keeps_its_time_when_jobs_come(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    before = partition.client.zscore(partition.keys.ready("crm"), "a")
    partition.sequence(change("a", 2))
    assert partition.client.zscore(partition.keys.ready("crm"), "a") == before


def test_a_runner_is_rung_for_once_until_it_answers(partition: Partition) -> None:
    lease = partition.acquire()
    rung = []
    for seq in (1, 2):
        partition.append(change("a", seq))
        batch, decided = partition.prepare(lease)
        rung.append(partition.store.commit(lease, batch, decided, to("crm", "mail"), 10).bells)
    partition.lanes("mail").claim(lanes=1, jobs=1, per_lane=1)
    partition.append(change("a", 3))
    batch, decided = partition.prepare(lease)
    rung.append(partition.store.commit(lease, batch, decided, to("crm", "mail"), 10).bells)
    assert rung == [["crm", "mail"], [], ["mail"]]


class Clock:
    """Sets the server's time as batches see it; at first, to the beginning of the next window."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = (int(time.time() * 1000) // HALF_WINDOW + 1) * HALF_WINDOW
        made = Batch.__init__

        def at_my_time(batch: Batch, *values: object, **more: object) -> None:
            made(batch, *values, **more)  # type: ignore[arg-type]
            object.__setattr__(batch, "now", self.now)

        monkeypatch.setattr(Batch, "__init__", at_my_time)


def test_an_id_is_known_though_the_server_s_clock_was_set_back(partition: Partition) -> None:
    """Across the border of a window: what was remembered then lies in the next window, as seen from now."""
    partition.sequence(change("a", 1))
    (remembered,) = (name for name in partition.names() if name.startswith("seen:"))
    window = int(remembered.removeprefix("seen:"))
    partition.client.rename(partition.keys.seen(window), partition.keys.seen(window + 1))
    partition.sequence(change("a", 1))
    assert partition.balanced().ledger["duplicates"] == 1
