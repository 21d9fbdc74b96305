"""The sequencer's task, in this process, against real servers: from a doorbell to full lanes and the next bell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog
from pydantic import ByteSize
from structlog.typing import EventDict

from tests import servers
from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change, other, partition_on
from worker.core.envelope import read
from worker.core.sequencing import Delivery, Plan, State, plan
from worker.runtime.sequencer import FAULTS_IN_A_ROW, FIRST_BATCH, MOST_BATCH, Sequencer, policy_of
from worker.store.batch import Batch
from worker.store.sequence import BATCH_BYTES, Lease, SequenceStore

CRM = spec_of(lambda subject, ctx: None)
MAIL = spec_of(lambda subject, ctx: None, name="mail", on="*")


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def quick(partition: Partition) -> Partition:
    """Gaps are given up at once."""
    partition.settings.gap_wait = 0.0
    return partition


def test_a_backlog_of_thousands_is_drained(quick: Partition) -> None:
    quick.append(*(change(f"t{number}", seq, assignee=f"m{seq}") for seq in range(1, 51) for number in range(100)))
    process, bells = process_of(quick, CRM, MAIL)
    read = 0
    while read < 5000:
        count = Sequencer(process, 1).run()
        assert count > 0
        read += count
    for handler in ("crm", "mail"):
        assert all(quick.seqs_in(handler, f"t{number}") == list(range(1, 51)) for number in range(100))
    assert bells.rung[:2] == [("crm", 1, 0.0), ("mail", 1, 0.0)]
    quick.balanced("crm", "mail")
    assert not quick.client.exists(quick.keys.lease, quick.keys.bell)


def test_batches_grow_but_not_with_big_bodies(quick: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    sizes: list[int] = []
    read = SequenceStore.read

    def noting(store: SequenceStore, lease: Lease, count: int) -> Batch:
        asked.append(count)
        batch = read(store, lease, count)
        sizes.append(sum(len(body) for body, _ in batch.bodies.values()))
        return batch

    monkeypatch.setattr(SequenceStore, "read", noting)
    process, _ = process_of(quick, CRM)
    quick.append(*(other("a", seq) for seq in range(1, 1200)))
    Sequencer(process, 1).run()
    assert asked == [FIRST_BATCH, 4 * FIRST_BATCH, MOST_BATCH, MOST_BATCH, MOST_BATCH]
    sizes.clear()
    quick.append(*(change("b", seq, pad=200_000) for seq in range(1, 100)))
    assert Sequencer(process, 1).run() == 99
    assert max(sizes) < BATCH_BYTES + 201_000
    assert len(sizes) < 9


def test_a_slice_that_is_over_hands_on(quick: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.runtime.sequencer.SLICE", 0.0)
    quick.append(*(other("a", seq) for seq in range(1, 2 * FIRST_BATCH + 1)))
    process, bells = process_of(quick, MAIL)
    assert Sequencer(process, 1).run() == FIRST_BATCH
    assert bells.rung == [("mail", 1, 0.0), ("", 1, 0.0)]
    assert quick.client.exists(quick.keys.bell)
    assert Sequencer(process, 1).run() == FIRST_BATCH
    assert quick.seqs_in("mail", "a") == list(range(1, 2 * FIRST_BATCH + 1))
    assert bells.rung[2:] == []


def test_another_sequencer_at_work_is_left_to_it(quick: Partition) -> None:
    quick.append(change("a", 1))
    quick.acquire()
    process, bells = process_of(quick, CRM)
    before = quick.dump()
    assert Sequencer(process, 1).run() == 0
    assert (quick.dump(), bells.rung) == (before, [])


def test_a_lost_lease_ends_quietly_and_nothing_is_lost(
    quick: Partition, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stood still between loading and committing, and another took over."""
    quick.append(change("a", 1))
    load = SequenceStore.load

    def too_slow(store: SequenceStore, *arguments: object) -> object:
        state = load(store, *arguments)  # type: ignore[arg-type]
        quick.expire_lease()
        return state

    process, bells = process_of(quick, CRM)
    with monkeypatch.context() as patched:
        patched.setattr(SequenceStore, "load", too_slow)
        assert Sequencer(process, 1).run() == 0
    assert [line["event"] for line in logged] == ["sequencer_lease_lost"]
    assert (quick.seqs_in("crm", "a"), bells.rung) == ([], [])
    assert Sequencer(process, 1).run() == 1
    assert quick.seqs_in("crm", "a") == [1]
    quick.balanced("crm")


def test_a_gap_that_ends_soon_gets_a_bell_of_its_own(partition: Partition) -> None:
    partition.settings.gap_wait = 0.3
    partition.append(change("a", 1), change("b", 1))
    process, bells = process_of(partition, CRM)
    Sequencer(process, 1).run()
    assert partition.books("crm").held == 2
    ((handler, number, delay),) = bells.rung
    assert (handler, number) == ("", 1)
    assert 0.0 < delay <= 0.302


def test_a_gap_that_ends_later_is_the_sweepers(partition: Partition) -> None:
    partition.settings.gap_wait = 5.0
    partition.append(change("a", 1))
    process, bells = process_of(partition, CRM)
    Sequencer(process, 1).run()
    assert (partition.books("crm").held, bells.rung) == (1, [])


def test_more_due_gaps_than_one_batch_takes_are_all_given_up(partition: Partition) -> None:
    """Each turn takes some and rings for the rest."""
    partition.settings.gap_wait = 3600.0
    partition.append(*(change(f"t{number}", 5) for number in range(450)))
    process, bells = process_of(partition, CRM)
    Sequencer(process, 1).run()
    assert partition.books("crm").held == 450
    partition.settings.gap_wait = 0.0
    partition.client.zadd(partition.keys.gaps, {f"t{number}": 1 for number in range(450)})
    turns = 0
    while partition.balanced("crm").held:
        rung = len([bell for bell in bells.rung if bell[0] == ""])
        Sequencer(process, 1).run()
        turns += 1
        if partition.books("crm").held:
            assert len([bell for bell in bells.rung if bell[0] == ""]) == rung + 1
    assert turns <= 3
    assert partition.books("crm").handlers["crm"].waiting == 450


def test_what_is_quarantined_is_logged_without_its_body(quick: Partition, logged: list[EventDict]) -> None:
    quick.append(b'{"id": "private words"}', b"private words")
    process, _ = process_of(quick, CRM)
    Sequencer(process, 1).run()
    assert [(line["event"], line["reason"]) for line in logged] == [
        ("quarantined", "not_an_event"),
        ("quarantined", "not_json"),
    ]
    assert "private" not in str(logged)


def test_a_server_that_is_gone_ends_the_run_quietly(prefix: str, logged: list[EventDict]) -> None:
    with servers.running("valkey") as url, partition_on(url, prefix) as partition:
        partition.append(change("a", 1))
        process, bells = process_of(partition, CRM)
    assert Sequencer(process, 1).run() == 0
    assert [line["event"] for line in logged] == ["sequencer_store_unavailable"]
    assert bells.rung == []


def test_a_full_server_lets_the_backlog_drain(prefix: str) -> None:
    """Scripts are flagged ``allow-oom``: what frees memory must not be refused for want of it."""
    with servers.running("valkey") as url, partition_on(url, prefix) as partition:
        partition.settings.gap_wait = 0.0
        partition.append(change("a", 1), change("a", 2, assignee="m2"))
        partition.client.config_set("maxmemory-policy", "noeviction")
        partition.client.config_set("maxmemory", "1")
        process, _ = process_of(partition, CRM)
        assert Sequencer(process, 1).run() == 2
        claim = partition.lanes().claim(lanes=1, jobs=9, per_lane=9)
        assert [job.job.seq for job in claim.lanes[0].jobs] == [1, 2]


def test_the_policy_has_the_settings_in_milliseconds(partition: Partition) -> None:
    settings = partition.settings
    settings.gap_wait, settings.held_max, settings.dedup_window = 1.5, 7, 60.0
    settings.held_bytes = ByteSize(5000)
    made = policy_of(settings)
    assert (made.gap_wait.fixed_ms, made.held_max, made.dedup_window_ms, made.held_bytes) == (1500, 7, 60_000, 5000)
    settings.gap_wait = None
    made = policy_of(settings)
    assert (made.gap_wait.fixed_ms, made.gap_wait.least_ms, made.gap_wait.most_ms) == (None, 20, 10_000)


def failing_on(*suspects: str) -> Callable[..., Plan]:
    """A ``plan`` that raises what nobody foresaw when it meets an event with one of these ids."""

    def careless(state: State, deliveries: Sequence[Delivery], *rest: Any, **more: Any) -> Plan:
        held = [arrival.event.id for team in state.teams.values() for arrival in team.held]
        for name in held + [getattr(delivery[2], "id", "") for delivery in deliveries if len(delivery) > 2]:
            if name in suspects:
                raise ZeroDivisionError(name + "private")
        return plan(state, deliveries, *rest, **more)

    return careless


def quarantined_reasons(partition: Partition) -> dict[bytes, bytes]:
    found = partition.client.xrange(partition.keys.quarantine)
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in found]
    return {item[b"b"]: item[b"reason"] for item in fields}


def test_a_delivery_that_breaks_planning_is_set_aside_and_all_others_go_on(
    quick: Partition, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.runtime.sequencer.plan", failing_on("a-2"))
    events = {(team, seq): change(team, seq, assignee=f"m{seq}") for seq in (1, 2, 3) for team in "ab"}
    quick.append(*events.values(), b"not json", change("c", 1))
    process, _ = process_of(quick, CRM)
    assert Sequencer(process, 1).run() == 8
    assert [quick.seqs_in("crm", team) for team in "abc"] == [[1, 3], [1, 2, 3], [1]]
    assert quarantined_reasons(quick) == {events["a", 2]: b"internal_error", b"not json": b"not_json"}
    assert [line["event"] for line in logged] == ["batch_failed", "internal_error", "quarantined", "quarantined"]
    assert "careless" in logged[1]["traceback"]
    assert "a-2private" not in str(logged)
    quick.balanced("crm")
    assert not quick.client.exists(quick.keys.lease, quick.keys.bell)


def test_a_delivery_that_cannot_be_written_is_set_aside(quick: Partition) -> None:
    """The key of its lane is of another type. What the script had not come to by then is not taken for done."""
    quick.client.set(quick.keys.lane("crm", "a"), "no list")
    quick.append(change("a", 1), change("b", 1))
    process, _ = process_of(quick, CRM)
    assert Sequencer(process, 1).run() == 2
    assert quarantined_reasons(quick) == {change("a", 1): b"internal_error"}
    assert quick.seqs_in("crm", "b") == [1]
    quick.client.delete(quick.keys.lane("crm", "a"))
    quick.balanced("crm")


def test_a_delivery_that_breaks_reading_is_set_aside_with_its_cause_logged(
    quick: Partition, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(body: bytes, team: str | None) -> object:
        if b"a-1" in body:
            raise ZeroDivisionError(body)
        return read(body, team)

    monkeypatch.setattr("worker.store.sequence.read", careless)
    quick.append(change("a", 1), change("b", 1))
    process, _ = process_of(quick, CRM)
    assert Sequencer(process, 1).run() == 2
    assert quarantined_reasons(quick) == {change("a", 1): b"internal_error"}
    assert [(line["event"], line.get("error")) for line in logged if line["log_level"] == "error"] == [
        ("internal_error", "ZeroDivisionError")
    ]
    assert "assigneeId" not in str(logged)


def test_a_team_whose_held_events_break_planning_holds_up_no_other(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition.settings.gap_wait = 3600.0
    partition.append(*(change(team, 5) for team in "abc"))
    process, _ = process_of(partition, CRM)
    Sequencer(process, 1).run()
    partition.settings.gap_wait = 0.0
    partition.client.zadd(partition.keys.gaps, dict.fromkeys("abc", 1))
    monkeypatch.setattr("worker.runtime.sequencer.plan", failing_on("b-5"))
    Sequencer(process, 1).run()
    assert [partition.seqs_in("crm", team) for team in "abc"] == [[5], [], [5]]
    assert 50_000 < partition.client.zscore(partition.keys.gaps, "b") - time.time() * 1000 <= 60_000
    assert (partition.balanced("crm").held, quarantined_reasons(partition)) == (1, {})


def test_when_everything_fails_little_is_set_aside(
    quick: Partition, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is not theirs: they wait in the inbox for somebody to mend it."""
    quick.append(*(change(f"t{number}", 1) for number in range(20)))
    process, _ = process_of(quick, CRM)
    with monkeypatch.context() as patched:
        patched.setattr("worker.runtime.sequencer.plan", failing_on(*(f"t{number}-1" for number in range(20))))
        Sequencer(process, 1).run()
    assert (len(quarantined_reasons(quick)), quick.books("crm").unread) == (FAULTS_IN_A_ROW, 20 - FAULTS_IN_A_ROW)
    assert logged[-1]["event"] == "sequencer_failed"
    assert quick.client.exists(quick.keys.lease)
    quick.expire_lease()
    Sequencer(process, 1).run()
    assert quick.balanced("crm").unread == 0


def test_a_batch_that_took_long_is_followed_by_a_smaller_one(quick: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that outlasts the lease is done for nothing, however often it is tried again."""
    asked: list[int] = []
    read_batch = SequenceStore.read

    def noting(store: SequenceStore, lease: object, count: int) -> object:
        asked.append(count)
        return read_batch(store, lease, count)  # type: ignore[arg-type]

    monkeypatch.setattr(SequenceStore, "read", noting)
    monkeypatch.setattr("worker.runtime.sequencer.SLOW", 0.0)
    process, _ = process_of(quick, CRM)
    quick.append(*(other("a", seq) for seq in range(1, FIRST_BATCH + 12)))
    Sequencer(process, 1).run()
    assert asked[:3] == [FIRST_BATCH, FIRST_BATCH // 4, FIRST_BATCH // 16]
