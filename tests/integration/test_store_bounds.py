"""Batches of thousands: Lua's unpack takes some 8,000 arguments, and a lane may get all of a backlog at once."""

from __future__ import annotations

import pytest

from tests.store_kit import PATIENT, Partition, change, other, to
from worker.core.sequencing import Policy
from worker.store.dead import DeadFilter, list_dead
from worker.store.lanes import Action, Settlement
from worker.store.pages import Window
from worker.store.writes import CHUNK, Writes

MANY = 9001  # more than unpack takes, and no multiple of a chunk


@pytest.fixture(autouse=True)
def _long_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches here are twenty times what a sequencer reads; on a busy machine one may outlast a real lease."""
    monkeypatch.setattr("worker.store.sequence.LEASE_MS", 120_000)
    monkeypatch.setattr("worker.store.lanes.LEASE_MS", 120_000)


def test_thousands_of_jobs_in_one_lane(partition: Partition) -> None:
    partition.sequence(*(other("a", seq) for seq in range(1, MANY + 1)), route=to("crm", "mail"), count=MANY)
    for handler in ("crm", "mail"):
        assert partition.seqs_in(handler, "a") == list(range(1, MANY + 1))
    books = partition.balanced()
    assert (books.in_stream, books.ledger["stored"]) == (MANY, MANY)
    for handler in ("mail", "crm"):
        claim = partition.lanes(handler).claim(lanes=1, jobs=MANY, per_lane=MANY)
        assert partition.lanes(handler).settle([Settlement(claim.token, "a", done=MANY)]) == {"a": False}
    assert partition.balanced().in_stream == 0


def test_thousands_of_teams_in_one_batch(partition: Partition) -> None:
    """And so thousands of keys, and of commands, in one script."""
    partition.sequence(*(change(f"t{number}", 1) for number in range(MANY)), count=MANY)
    claim = partition.lanes().claim(lanes=MANY, jobs=MANY, per_lane=5)
    assert len(claim.lanes) == MANY
    settled = partition.lanes().settle([Settlement(claim.token, lane.lane, done=1) for lane in claim.lanes])
    assert set(settled.values()) == {False}
    assert partition.balanced().in_stream == 0


def test_thousands_of_duplicates_and_unreadable_bodies_in_one_batch(partition: Partition) -> None:
    partition.sequence(*([change("a", 1)] * MANY), *([b"x"] * CHUNK), count=2 * MANY)
    books = partition.balanced()
    assert (books.ledger["duplicates"], books.ledger["quarantined"], books.in_stream) == (MANY - 1, CHUNK, 1)


def test_thousands_of_events_held_and_released_again(partition: Partition) -> None:
    held = CHUNK + 501
    policy = Policy(gap_wait=PATIENT.gap_wait, held_max=held)
    partition.sequence(*(other("a", seq) for seq in range(2, held + 2)), policy=policy, count=held)
    assert partition.balanced().held == held
    partition.client.xadd(partition.keys.inbox, {"proof": 1, "t": "a"})
    partition.sequence(policy=policy)
    assert partition.seqs_in("crm", "a") == list(range(2, held + 2))
    partition.balanced()


def test_a_quarantine_keeps_no_more_than_its_bound(partition: Partition) -> None:
    """Trimming is approximate (``MAXLEN ~``): whole nodes of the stream, 100 entries each, go at once."""
    bodies = [b"%d" % number for number in range(1000)]
    partition.append(*bodies)
    lease = partition.acquire()
    batch, decided = partition.prepare(lease)
    partition.store.commit(lease, batch, decided, to(), 300)
    kept = partition.client.xrange(partition.keys.quarantine)
    assert 300 <= len(kept) <= 400
    assert kept[-1][1][1] == bodies[-1]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_long_commands_are_split_and_none_is_empty(size: int) -> None:
    writes = Writes()
    writes.add("SADD", "k", list(range(size)))
    writes.add("ZADD", "other", [1, "m"], always=["NX"])
    words = writes.words(3)
    commands = []
    while words:
        count = int(words[0])
        commands.append(words[1 : count + 1])
        words = words[count + 1 :]
    *split, last = commands
    assert [word for command in split for word in command[2:]] == list(range(size))
    assert all(command[0] == "SADD" and 2 < len(command) <= CHUNK + 2 for command in split)
    assert last == ["ZADD", 3 + len(writes.keys), "NX", 1, "m"]
    assert writes.keys == (["k", "other"] if size else ["other"])


def test_pairs_stay_together_when_a_command_is_split() -> None:
    assert CHUNK % 2 == 0


def test_a_claim_takes_no_more_bytes_than_its_bound(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """But always one job, however big its body is."""
    body = len(change("a", 1, pad=1000))
    monkeypatch.setattr("worker.store.lanes.MOST_BYTES", 2 * body + 1)
    partition.sequence(*(change(team, seq, pad=1000) for team in "abc" for seq in range(1, 6)))
    claim = partition.lanes().claim(lanes=9, jobs=99, per_lane=99)
    assert [(lane.lane, [job.job.seq for job in lane.jobs]) for lane in claim.lanes] == [("a", [1, 2, 3])]
    assert claim.more
    monkeypatch.setattr("worker.store.lanes.MOST_BYTES", 1)
    claim = partition.lanes().claim(lanes=9, jobs=99, per_lane=99)
    assert [(lane.lane, [job.job.seq for job in lane.jobs]) for lane in claim.lanes] == [("b", [1])]


def test_a_dead_letter_of_a_big_body_is_whole(partition: Partition) -> None:
    body = change("a", 1, pad=1_000_000)
    partition.sequence(body)
    claim = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    partition.lanes().settle([Settlement(claim.token, "a", action=Action.BURY)])
    (letter,) = list_dead(partition.client, [partition.keys], DeadFilter(), Window(), 9).records
    assert (letter.size, letter.event_id) == (len(body), "a-1")
    assert body in partition.client.xrange(partition.keys.inbox)[0][1]
