"""Quarantined deliveries accepted once more, on a real server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.store_kit import AT_ONCE, Partition, change, to
from worker.core.sequencing import Policy
from worker.store import quarantine
from worker.store.pages import Window
from worker.store.quarantine import Quarantined, body_of, drop_quarantined, quarantined_at, requeue, select_quarantine

OLD = replace(AT_ONCE, dedup_window_ms=1000)
"""Everything below the watermark is too old: the kit's events are of a fixed day."""

ON_A_CLUSTER = True


def found(partition: Partition) -> list[Quarantined]:
    return select_quarantine(partition.client, [partition.keys], Window())


def again(partition: Partition, policy: Policy = OLD) -> None:
    partition.sequence(policy=policy)


def too_old(partition: Partition) -> Quarantined:
    """Seq 1 came when 5 was out already."""
    partition.sequence(change("a", 5, prospect="q"), policy=OLD)
    partition.sequence(change("a", 1), policy=OLD)
    (delivery,) = found(partition)
    assert (delivery.reason, delivery.doubtful, delivery.unreadable) == ("too_old", True, False)
    return delivery


def test_what_a_person_vouches_for_goes_out_late_though_its_id_is_remembered(partition: Partition) -> None:
    delivery = too_old(partition)
    assert requeue(partition.scripts, partition.keys, [delivery]) == [True]
    books = partition.balanced()
    assert (books.accepted, books.unread, books.quarantine) == (3, 1, 0)
    again(partition)
    assert partition.seqs_in("crm", "a") == [5, 1]
    assert partition.in_lane("crm", "a")[1].split(b" ")[4].endswith(b"l")
    assert partition.balanced().quarantine == 0


def test_an_unreadable_one_comes_back_to_the_quarantine_and_the_books_balance(partition: Partition) -> None:
    partition.sequence(b"not json")
    (delivery,) = found(partition)
    assert (delivery.unreadable, delivery.doubtful) == (True, False)
    requeue(partition.scripts, partition.keys, [delivery])
    again(partition)
    (back,) = found(partition)
    assert (back.reason, back.entry != delivery.entry) == ("not_json", True)
    assert partition.balanced().ledger["quarantined"] == 2


def test_a_fault_that_is_mended_lets_the_delivery_through(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr("worker.store.sequence.read", broken)
        partition.append(change("a", 1), team="a")
        partition.sequence()
    (delivery,) = found(partition)
    assert (delivery.reason, delivery.unreadable, delivery.doubtful) == ("internal_error", False, False)
    requeue(partition.scripts, partition.keys, [delivery])
    ((_, fields),) = partition.client.xrange(partition.keys.inbox)
    assert dict(zip(fields[::2], fields[1::2], strict=True)) == {b"b": change("a", 1), b"t": b"a"}
    again(partition)
    assert partition.seqs_in("crm", "a") == [1]
    partition.balanced()


def test_two_who_retry_or_drop_the_same_delivery_do_it_once(partition: Partition) -> None:
    partition.sequence(b"1", b"2", b"3", route=to())
    first, second, third = found(partition)
    assert requeue(partition.scripts, partition.keys, [first]) == [True]
    assert drop_quarantined(partition.client, partition.keys, [second, first]) == [True, False]
    assert requeue(partition.scripts, partition.keys, [first, second, third]) == [False, False, True]
    books = partition.balanced()
    assert (books.accepted, books.unread, books.quarantine) == (5, 2, 0)


def test_they_are_found_by_place_and_come_in_the_order_in_which_they_arrived(partition: Partition) -> None:
    partition.sequence(*(b"%d" % number for number in range(12)), route=to())
    some = found(partition)
    assert [body_of(partition.client, partition.keys, one.entry) for one in some] == [b"%d" % n for n in range(12)]
    places = [(one.partition, one.entry) for one in reversed(some)]
    assert quarantined_at(partition.client, [partition.keys], [*places, (1, "5-5")]) == some
    assert body_of(partition.client, partition.keys, "5-5") == b""
    assert quarantine.in_order(reversed(some)) == some
