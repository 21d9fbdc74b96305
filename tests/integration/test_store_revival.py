"""Dead letters back to work, or forgotten, on a real server: nothing doubled, nothing lost, nothing undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from tests.store_kit import Partition, change, other, partition_on, seq_of, to
from worker.core.jobs import decode
from worker.core.lateness import GapWait
from worker.core.sequencing import Policy
from worker.store.archive import Archive
from worker.store.dead import DeadFilter, Letter, letters_at, open_letter, select_dead
from worker.store.lanes import Action, Attempt, Dead, Settlement
from worker.store.pages import Window
from worker.store.revival import MOST, Outcome, Revival, chunks, drop

REVIVED, STALE, GONE, LOST = Outcome.REVIVED, Outcome.STALE, Outcome.GONE, Outcome.LOST

ON_A_CLUSTER = True


@pytest.fixture
def kept(any_server_url: str, prefix: str) -> Iterator[Partition]:
    """A partition with an archive."""
    with partition_on(any_server_url, prefix, archive_events=50) as made:
        yield made


def bury(partition: Partition, handler: str = "crm", *, error: str = "E", count: int = 999) -> None:
    """The first ``count`` jobs of every lane are given up."""
    lanes = partition.lanes(handler)
    claim = lanes.claim(lanes=99, jobs=999, per_lane=count)
    failed = [Attempt(1, 5, error, "secret text")]
    lanes.settle(
        [
            Settlement(
                claim.token,
                lane.lane,
                ended="D" * len(lane.jobs),
                dead=[Dead(1, failed, error, "secret text")] * len(lane.jobs),
            )
            for lane in claim.lanes
        ]
    )


def finish(partition: Partition, handler: str = "crm") -> list[int]:
    """Every job is done; their numbers, as called."""
    called = []
    lanes = partition.lanes(handler)
    claim = lanes.claim(lanes=99, jobs=999, per_lane=999)
    for lane in claim.lanes:
        called += [seq_of(job.body) for job in lane.jobs]
        lanes.settle([Settlement(claim.token, lane.lane, done=len(lane.jobs))])
    return called


def letters(partition: Partition, **wanted: Any) -> list[Letter]:
    return select_dead(partition.client, [partition.keys], DeadFilter(**wanted), Window())


def revival(partition: Partition, **options: Any) -> Revival:
    return Revival(partition.client, partition.scripts, {partition.keys.partition: partition.keys}, **options)


def revive(partition: Partition, some: Sequence[Letter] | None = None, **options: Any) -> list[Outcome]:
    return revival(partition, **options).revive(letters(partition) if some is None else some)


def test_a_letter_becomes_the_last_job_of_its_lane_and_is_late(kept: Partition) -> None:
    kept.sequence(*(change("a", seq, prospect=f"p{seq}") for seq in (1, 2)), route=to("crm", "mail"))
    bury(kept)
    kept.sequence(change("a", 3, prospect="p3"))
    before = kept.balanced().handlers["crm"]
    assert (before.dead, before.waiting) == (2, 1)
    assert revive(kept) == [REVIVED, REVIVED]
    after = kept.balanced()
    assert (after.handlers["crm"].dead, after.handlers["crm"].waiting, after.dead) == (0, 3, 0)
    jobs = [decode(text) for text in kept.in_lane("crm", "a")]
    assert [(job.seq, job.late, job.shared) for job in jobs] == [(3, False, True), (1, True, True), (2, True, True)]
    assert not [name for name in kept.client.hkeys(kept.keys.ends) if name.endswith(b" crm")]
    assert finish(kept) == [3, 1, 2]
    assert finish(kept, "mail") == [1, 2]
    assert kept.balanced().handlers["crm"].done == 3
    assert {text.split()[0] for text in kept.client.hgetall(kept.keys.ends).values()} == {b"done"}


def test_an_empty_lane_is_due_at_once_and_a_body_goes_with_its_revived_job(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    bury(partition)
    assert partition.balanced().ledger["kept"] == 1
    assert revive(partition) == [REVIVED]
    books = partition.balanced()
    assert (books.ledger["kept"], books.ledger["kept_bytes"], books.waiting) == (0, 0, 1)
    assert finish(partition) == [1]
    assert partition.balanced().in_stream == 0
    assert not partition.client.exists(partition.keys.refs)


@pytest.mark.parametrize("state", ["claimed", "backing off", "blocked", "paused and empty"])
def test_a_lane_keeps_its_time_while_somebody_has_it_or_it_may_not_run(partition: Partition, state: str) -> None:
    partition.sequence(change("a", 1), change("a", 2, prospect="q"))
    bury(partition, count=1)
    ready = partition.keys.ready("crm")
    if state == "paused and empty":
        bury(partition)
        partition.client.hset(partition.keys.blocked("crm"), "a", '{"why":"paused"}')
        assert revive(partition) == [REVIVED, REVIVED]
        assert partition.client.zscore(ready, "a") == float("inf")
        return
    claim = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    actions = {"backing off": Action.RETRY, "blocked": Action.BLOCK}
    if state in actions:
        outcome = Settlement(claim.token, "a", action=actions[state], delay_ms=60_000, attempts=1)
        partition.lanes().settle([outcome])
    before = partition.client.zscore(ready, "a")
    assert revive(partition) == [REVIVED]
    assert partition.client.zscore(ready, "a") == before
    if state == "claimed":
        assert partition.lanes().settle([Settlement(claim.token, "a", done=1)]) == {"a": True}
        assert finish(partition) == [1]


def test_what_a_newer_change_has_overtaken_stays_unless_a_person_insists(partition: Partition) -> None:
    partition.sequence(change("a", 1, assignee="m1"), change("a", 2, prospect="q"))
    bury(partition)
    partition.sequence(change("a", 3, assignee="m2"))
    assert finish(partition) == [3]
    assert revival(partition).judge(letters(partition)) == [STALE, REVIVED]
    assert revive(partition) == [STALE, REVIVED]
    assert [letter.job.split()[3] for letter in letters(partition)] == [b"1"]
    partition.balanced()
    assert finish(partition) == [2]
    assert revive(partition, force=True) == [REVIVED]
    (job,) = [decode(text) for text in partition.in_lane("crm", "a")]
    assert job.late
    assert job.change is not None
    assert job.change.stale
    assert finish(partition) == [1]
    assert partition.balanced().in_stream == 0


def test_an_echo_of_the_same_owner_does_not_overtake(partition: Partition) -> None:
    partition.sequence(change("a", 1, assignee="m1"))
    bury(partition)
    partition.sequence(change("a", 2, assignee="m1"), route=to())
    assert revive(partition) == [REVIVED]


def test_a_handler_that_asked_for_stale_changes_gets_it(partition: Partition) -> None:
    partition.sequence(change("a", 1, assignee="m1"))
    bury(partition)
    partition.sequence(change("a", 2, assignee="m2"), route=to())
    assert revive(partition, take_stale={"mail"}, take_events={"mail"}) == [STALE]
    assert revive(partition, take_stale={"crm"}) == [REVIVED]
    (job,) = [decode(text) for text in partition.in_lane("crm", "a")]
    assert (job.change and job.change.stale) is True


def test_no_event_overtakes_another(partition: Partition) -> None:
    """A handler with ``on=`` keeps a log, as it were: each event counts, whatever came after."""
    partition.sequence(change("a", 1, assignee="m1"))
    bury(partition)
    partition.sequence(change("a", 2, assignee="m2"), route=to())
    assert revive(partition, take_events={"crm"}) == [REVIVED]
    (job,) = [decode(text) for text in partition.in_lane("crm", "a")]
    assert (job.change and job.change.stale) is False


def test_one_that_was_stale_already_is_for_handlers_that_asked_for_it(partition: Partition) -> None:
    """As it is released, or because a batch went on without it (settle.lua)."""
    partition.sequence(change("a", 5, assignee="m2"), route=to())
    ever = Policy(gap_wait=GapWait(fixed_ms=0), dedup_window_ms=10**15)
    partition.sequence(change("a", 4, assignee="m1"), policy=ever)
    bury(partition)
    assert revive(partition) == [STALE]
    partition.client.delete(partition.keys.owner("a", "p"))
    assert revive(partition) == [STALE]
    assert revive(partition, take_stale={"crm"}) == [REVIVED]


def test_a_revived_job_begins_anew(partition: Partition) -> None:
    """It counts no attempts of a batch, and does not pass for one that was conflated with what stands before it."""
    partition.sequence(change("a", 1))
    (job,) = partition.in_lane("crm", "a")
    entry, _, size, seq, _, rest = job.split(b" ", 5)
    partition.client.lset(partition.keys.lane("crm", "a"), 0, b" ".join((entry, b"0", size, seq, b"akc3", rest)))
    bury(partition)
    assert revive(partition) == [REVIVED]
    (job,) = partition.in_lane("crm", "a")
    assert job == b" ".join((entry, b"1", size, seq, b"akl", rest))


def test_an_event_without_a_change_is_never_stale(partition: Partition) -> None:
    partition.sequence(other("a", 1))
    bury(partition)
    partition.sequence(other("a", 2), route=to())
    assert revive(partition) == [REVIVED]


def test_a_change_that_goes_out_between_the_look_and_the_write_is_seen(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written by a record that is not the present one, nor for what comes after in the same lane."""
    partition.sequence(change("a", 1, assignee="m1"), change("a", 2, prospect="q"), change("b", 1))
    bury(partition)
    found = letters(partition)
    run, seen = partition.scripts.run, []

    def late(name: str, keys: Any, args: Any) -> Any:
        if name == "revive" and not seen:
            seen.append(0)
            partition.sequence(change("a", 3, assignee="m2"))
            answer = run(name, keys, args)
            assert answer == [b"changed", b"changed", b"revived"]
            return answer
        return run(name, keys, args)

    monkeypatch.setattr(partition.scripts, "run", late)
    assert revive(partition, found) == [STALE, REVIVED, REVIVED]
    assert partition.seqs_in("crm", "a") == [3, 2]
    partition.balanced()


def test_two_who_retry_or_drop_the_same_letters_do_it_once(partition: Partition) -> None:
    partition.sequence(*(change("a", seq, prospect=f"p{seq}") for seq in (1, 2, 3)))
    bury(partition)
    found = letters(partition)
    assert revive(partition, found[:1]) == [REVIVED]
    assert drop(partition.scripts, partition.keys, found[1:2]) == [True]
    assert revive(partition, found) == [GONE, LOST, REVIVED]
    assert drop(partition.scripts, partition.keys, found) == [False, False, False]
    books = partition.balanced()
    assert (books.handlers["crm"].dead, books.handlers["crm"].waiting, books.dead) == (1, 2, 0)


def test_a_dropped_letter_stays_counted_and_its_body_goes_when_nobody_needs_it(kept: Partition) -> None:
    kept.sequence(change("a", 1), route=to("crm", "mail"))
    bury(kept)
    assert drop(kept.scripts, kept.keys, letters(kept)) == [True]
    assert (kept.balanced().dead, kept.balanced().handlers["crm"].dead) == (0, 1)
    ((name, end),) = kept.client.hgetall(kept.keys.ends).items()
    assert (name.split()[1], end.split()[0], end.split()[2]) == (b"crm", b"dropped", b"1")
    assert finish(kept, "mail") == [1]
    assert kept.balanced().in_stream == 1  # the archive's
    Archive(kept.client, kept.scripts, kept.keys, kept.settings).trim(10**15)
    assert kept.balanced().in_stream == 0


def test_a_letter_whose_body_was_lost_cannot_be_retried_but_dropped(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2))
    bury(partition)
    partition.client.xtrim(partition.keys.inbox, maxlen=0)
    assert revive(partition, force=True) == [LOST, LOST]
    assert len(letters(partition)) == 2
    assert drop(partition.scripts, partition.keys, letters(partition)) == [True, True]
    assert partition.balanced().ledger["kept"] == 0


def test_letters_are_retried_in_the_order_of_their_events_though_they_died_in_another(partition: Partition) -> None:
    partition.sequence(*(change("a", seq, prospect=f"p{seq}") for seq in range(1, 5)))
    claim = partition.lanes().claim(lanes=1, jobs=4, per_lane=4)
    dead = [Dead(1, (), "E", "e")]
    partition.lanes().settle([Settlement(claim.token, "a", ended="..D.", dead=dead)])
    bury(partition)
    assert [letter.job.split()[3] for letter in letters(partition)] == [b"1", b"2", b"3", b"4"]
    revive(partition)
    assert partition.seqs_in("crm", "a") == [1, 2, 3, 4]


def test_letters_are_found_by_place_and_by_what_they_are(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("b:%", 1), route=to("crm", "mail"))
    bury(partition, error="app.Rejected")
    bury(partition, "mail", error="Other")
    assert [found.team for found in letters(partition, handler="mail")] == ["a", "b:%"]
    some = letters(partition, error="Rejected")
    assert {found.handler for found in some} == {"crm"}
    places = [(found.partition, found.entry) for found in some]
    assert letters_at(partition.client, [partition.keys], [*places, *places, (1, "5-5"), (7, "5-5")]) == some


def test_an_open_letter_has_its_attempts_its_body_and_whether_it_is_overtaken(partition: Partition) -> None:
    partition.sequence(change("a", 1, assignee="m1"))
    bury(partition)
    (found,) = letters(partition)
    place = (found.partition, found.entry)
    opened = open_letter(partition.client, [partition.keys], place)
    assert opened is not None
    assert (opened.letter.event_id, opened.overtaken) == ("a-1", False)
    assert opened.attempts == [Attempt(1, 5, "E", "secret text")]
    assert seq_of(opened.body) == 1
    partition.sequence(change("a", 2, assignee="m2"))
    opened = open_letter(partition.client, [partition.keys], place)
    assert opened is not None
    assert opened.overtaken
    opened = open_letter(partition.client, [partition.keys], place, {"crm"})
    assert opened is not None
    assert not opened.overtaken
    assert open_letter(partition.client, [partition.keys], (1, "5-5")) is None


def test_chunks_are_of_one_partition_and_bounded() -> None:
    made = [Letter(number // 100, f"{number}-0", 1, "crm", "a", "E", b"1-0 0 100000 1 a ") for number in range(150)]
    some = list(chunks(made))
    assert [letter for chunk in some for letter in chunk] == made
    assert {len({letter.partition for letter in chunk}) for chunk in some} == {1}
    assert max(len(chunk) for chunk in some) == 41 < MOST
    assert [len(chunk) for chunk in chunks(made[:7], 3)] == [3, 3, 1]
    assert list(chunks([])) == []


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_revived_and_dropped_the_books_agree(any_server_url: str, prefix: str, seed: int) -> None:
    """Each body is there exactly as long as a job, a dead letter or the archive needs it, and each job is somewhere."""
    print(f"seed {seed}")
    random = Random(seed)
    with partition_on(any_server_url, prefix, archive_events=random.choice([0, 3, 50])) as partition:
        seq = 0
        for _ in range(40):
            kind = random.randrange(5)
            if kind == 0:
                some = random.sample(["crm", "mail"], random.randrange(3))
                count = random.randrange(1, 6)
                bodies = [
                    change("t", seq + 1 + at, prospect=random.choice("pq"), assignee=random.choice("mn"))
                    for at in range(count)
                ]
                partition.sequence(*bodies, route=to(*some))
                seq += count
            elif kind == 1:
                handler = random.choice(["crm", "mail"])
                lanes = partition.lanes(handler)
                claim = lanes.claim(lanes=1, jobs=4, per_lane=4)
                for lane in claim.lanes:
                    ended = "".join(random.choice("dDD.") for _ in lane.jobs)
                    dead = [Dead(1, (), "E", "e")] * ended.count("D")
                    lanes.settle([Settlement(claim.token, lane.lane, ended=ended, dead=dead)])
            elif kind == 2:
                Archive(partition.client, partition.scripts, partition.keys, partition.settings).trim(0)
            else:
                found = letters(partition)
                found = random.sample(found, random.randrange(len(found) + 1))
                if found and kind == 3:
                    revive(partition, found, force=random.random() < 0.5)
                elif found:
                    drop(partition.scripts, partition.keys, random.choices(found, k=2))
            _check(partition)


def _check(partition: Partition) -> None:
    waiting = {job.split()[0] for handler in ("crm", "mail") for job in partition.in_lane(handler, "t")}
    dead = {found.inbox_entry.encode() for found in letters(partition)}
    archived = {text.split()[3] for text in partition.client.lrange(partition.keys.archive, 0, -1)}
    bodies = {name: fields[1] for name, fields in partition.client.xrange(partition.keys.inbox)}
    assert set(bodies) == waiting | dead | archived
    books = partition.balanced()
    kept = set(bodies) - waiting
    assert books.ledger.get("kept", 0) == len(kept)
    assert books.ledger.get("kept_bytes", 0) == sum(len(bodies[entry]) for entry in kept)
