"""The archive on a real server, and who needs a body: jobs, dead letters, the archive."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.store_kit import PATIENT, Partition, change, other, partition_on, to
from worker.store.archive import Archive
from worker.store.lanes import Action, Dead, Settlement

FAR = 10**15  # ms


@pytest.fixture
def kept(any_server_url: str, prefix: str) -> Iterator[Partition]:
    """A partition with an archive of five events."""
    with partition_on(any_server_url, prefix, archive_events=5) as made:
        yield made


def archive(partition: Partition) -> Archive:
    return Archive(partition.client, partition.scripts, partition.keys, partition.settings)


def finish(partition: Partition, handler: str = "crm", *, ended: str = "d") -> None:
    """All jobs of all lanes end the same way."""
    claim = partition.lanes(handler).claim(lanes=99, jobs=999, per_lane=999)
    partition.lanes(handler).settle(
        [
            Settlement(
                claim.token,
                lane.lane,
                ended=ended * len(lane.jobs),
                dead=[Dead(1, (), "E", "e")] * (len(lane.jobs) if ended == "D" else 0),
            )
            for lane in claim.lanes
        ]
    )


def entries(partition: Partition) -> list[bytes]:
    return [name for name, _ in partition.client.xrange(partition.keys.inbox)]


def now(partition: Partition) -> int:
    return int(partition.client.time()[0]) * 1000


def test_what_is_done_stays_readable_until_it_is_over_the_bound(kept: Partition) -> None:
    kept.sequence(*(change("a", seq) for seq in range(1, 9)), route=to("crm", "mail"))
    assert archive(kept).trim(now(kept)) == 3
    assert kept.balanced().waiting == 8  # jobs wait for all, whatever the archive keeps
    finish(kept)
    finish(kept, "mail", ended="x")
    books = kept.balanced()
    assert (books.in_stream, books.waiting, books.ledger["kept"]) == (5, 0, 5)
    found = archive(kept).read(0, 99)
    assert (found.position, found.end, [record.job.seq for record in found.records]) == (3, 8, [4, 5, 6, 7, 8])
    assert found.records[0].handlers == ["crm", "mail"]
    assert [record.job.entry.encode() for record in found.records] == entries(kept)
    ends = kept.client.hgetall(kept.keys.ends)
    assert {name.split()[1]: text.split()[0] for name, text in ends.items()} == {b"crm": b"done", b"mail": b"discarded"}
    assert len(ends) == 10


def test_with_the_archive_emptied_nothing_is_left(kept: Partition) -> None:
    kept.sequence(*(change("a", seq) for seq in (1, 2, 3)), other("a", 4), change("a", 2), route=to("crm", "mail"))
    kept.sequence(change("a", 9), policy=PATIENT, route=to("crm"))
    kept.sequence(change("a", 5), route=to())
    finish(kept)
    finish(kept, "mail")
    assert kept.client.hlen(kept.keys.ids) == 6
    assert kept.client.lrange(kept.keys.again, 0, -1)[0].startswith(b"a")
    kept.client.lpush(kept.keys.again, "only its bound takes it away")
    assert archive(kept).trim(FAR) == 6
    books = kept.balanced()
    assert (books.in_stream, books.ledger["kept"], books.ledger["archive_bytes"], books.ledger["trimmed"]) == (
        0,
        0,
        0,
        6,
    )
    left = {name.split(":")[0] for name in kept.names()}
    assert left == {"inbox", "state", "seen", "team", "owner", "ledger", "again"}


def test_an_event_is_found_from_when_it_is_held_on(kept: Partition) -> None:
    kept.sequence(change("a", 1, event_id="e1"), change("a", 4, event_id="e4"), policy=PATIENT)
    kept.sequence(change("b", 7, event_id="b7"), policy=PATIENT)
    assert {name: text.split()[1:] for name, text in kept.client.hgetall(kept.keys.ids).items()} == {
        b"e1": [b"-"],
        b"e4": [b"-"],
        b"b7": [b"-"],
    }
    kept.sequence(policy=PATIENT)
    kept.sequence(change("c", 1, event_id="c1"))
    kept.sequence(change("c", 3, event_id="c3"), policy=PATIENT)
    assert kept.client.hget(kept.keys.ids, "c3").split()[1:] == [b"2"]
    kept.sequence(change("c", 2, event_id="c2"), policy=PATIENT)
    assert kept.client.hget(kept.keys.ids, "c3").split()[1:] == [b"2"]  # released, and what it waited for is known
    assert kept.client.hget(kept.keys.ids, "c2").split()[1:] == []


def test_bytes_and_age_bound_the_archive_too(any_server_url: str, prefix: str) -> None:
    with partition_on(any_server_url, prefix, archive_events=99, archive_bytes=3000, archive_age=60.0) as partition:
        partition.sequence(*(change("a", seq, pad=800) for seq in range(1, 9)), route=to())
        archive(partition).trim(now(partition))
        size = sum(len(fields[1]) for _, fields in partition.client.xrange(partition.keys.inbox))
        assert 2000 < size <= 3000
        assert partition.balanced().ledger["archive_bytes"] == size
        left = len(archive(partition).read(0, 99).records)
        assert archive(partition).trim(now(partition) + 62_000) == left > 0
        assert partition.balanced().in_stream == 0


def test_a_dead_letter_outlives_the_archive(kept: Partition) -> None:
    kept.sequence(change("a", 1), route=to("crm", "mail"))
    finish(kept, ended="D")
    assert kept.client.hgetall(kept.keys.ends)[entries(kept)[0] + b" crm"].startswith(b"dead ")
    assert kept.balanced().waiting == 1
    finish(kept, "mail")
    archive(kept).trim(FAR)
    books = kept.balanced()
    assert (books.in_stream, books.waiting, books.dead) == (1, 0, 1)
    assert not kept.client.exists(kept.keys.refs)


def test_jobs_that_stay_keep_their_order_and_the_middle_can_end(kept: Partition) -> None:
    kept.sequence(*(change("a", seq) for seq in range(1, 7)), route=to("crm"))
    claim = kept.lanes().claim(lanes=1, jobs=5, per_lane=5)
    dead = [Dead(1, (), "E", "e")]
    settlement = Settlement(claim.token, "a", ended="d.D.x", dead=dead, action=Action.RETRY, attempts=1)
    assert kept.lanes().settle([settlement]) == {"a": True}
    assert kept.seqs_in("crm", "a") == [2, 4, 6]
    books = kept.balanced().handlers["crm"]
    assert (books.done, books.discarded, books.dead, books.retried, books.waiting) == (1, 1, 1, 1, 3)


def test_a_blocked_lane_is_due_for_nobody_and_keeps_its_history(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2))
    claim = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    partition.lanes().settle([Settlement(claim.token, "a", action=Action.BLOCK, attempts=3, error="E")])
    assert partition.client.zscore(partition.keys.ready("crm"), "a") == float("inf")
    partition.sequence(change("a", 3))
    assert partition.client.zscore(partition.keys.ready("crm"), "a") == float("inf")
    assert partition.balanced().handlers["crm"].waiting == 3
    assert b'"why":"exhausted"' in partition.client.hget(partition.keys.blocked("crm"), "a")


def test_a_lane_that_is_paused_while_it_runs_is_not_due_when_it_is_let_go(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2))
    claim = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    partition.client.hset(partition.keys.blocked("crm"), "a", "{}")
    partition.lanes().settle([Settlement(claim.token, "a", done=1)])
    assert partition.client.zscore(partition.keys.ready("crm"), "a") == float("inf")


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_to_bodies_the_books_agree(any_server_url: str, prefix: str, seed: int) -> None:
    """Each body is there exactly as long as a job, a dead letter or the archive needs it, and kept counts the rest."""
    print(f"seed {seed}")
    random = Random(seed)
    with partition_on(any_server_url, prefix, archive_events=random.choice([0, 3, 50])) as partition:
        seq = 0
        for _ in range(40):
            kind = random.randrange(4)
            if kind == 0:
                some = random.sample(["crm", "mail", "audit"], random.randrange(4))
                count = random.randrange(1, 6)
                partition.sequence(
                    *(change("t", seq + 1 + at, pad=random.randrange(200)) for at in range(count)), route=to(*some)
                )
                seq += count
            elif kind == 1:
                archive(partition).trim(now(partition) if random.random() < 0.9 else FAR)
            else:
                _settle_at_random(partition, random)
            _check(partition)
        for handler in ("crm", "mail", "audit"):
            partition.expire_claims(handler)
            finish(partition, handler)
        archive(partition).trim(FAR)
        books = partition.balanced()
        assert (books.in_stream, books.ledger.get("kept", 0)) == (_check(partition), books.dead and books.in_stream)
        assert not partition.client.exists(partition.keys.ends, partition.keys.ids)


def _settle_at_random(partition: Partition, random: Random) -> None:
    handler = random.choice(["crm", "mail", "audit"])
    lanes = partition.lanes(handler)
    claim = lanes.claim(lanes=1, jobs=4, per_lane=4)
    for lane in claim.lanes:
        ended = "".join(random.choice("dxD.") for _ in lane.jobs)
        dead = [Dead(1, (), "E", "e")] * ended.count("D")
        lanes.settle([Settlement(claim.token, lane.lane, ended=ended, dead=dead)])


def _check(partition: Partition) -> int:
    """The bodies that are needed, by looking at everything that could need one; returns how many."""
    waiting: set[bytes] = set()
    for handler in ("crm", "mail", "audit"):
        waiting |= {job.split()[0] for job in partition.in_lane(handler, "t")}
    dead = {flat[flat.index(b"job") + 1].split()[0] for _, flat in partition.client.xrange(partition.keys.dead)}
    archived = {text.split()[3] for text in partition.client.lrange(partition.keys.archive, 0, -1)}
    needed = waiting | dead | archived
    bodies = {name: fields[1] for name, fields in partition.client.xrange(partition.keys.inbox)}
    assert set(bodies) == needed
    books = partition.balanced()
    assert books.ledger.get("kept", 0) == len(needed - waiting)
    assert books.ledger.get("kept_bytes", 0) == sum(len(bodies[entry]) for entry in needed - waiting)
    assert books.waiting == len(waiting)
    return len(needed)
