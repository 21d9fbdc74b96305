"""Counting what is there: bounded, in pieces, and while others go on working."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.store_kit import PATIENT, Partition, change, to
from worker.store import ledger
from worker.store.installation import fix_partitions, stored_partitions
from worker.store.ledger import Bounds
from worker.store.look import MOST, look
from worker.store.scripts import Scripts, Word


def test_what_is_over_a_bound_comes_from_the_ledger(partition: Partition) -> None:
    partition.sequence(*[change(f"t{number}", 1) for number in range(30)], route=to("crm"))
    partition.sequence(*[change(f"h{number}", 9) for number in range(5)], policy=PATIENT)
    partition.append(*[change("late", seq) for seq in range(400)])
    exact = ledger.take(partition.scripts, partition.keys, ["crm"])
    bounded = ledger.take(partition.scripts, partition.keys, ["crm"], Bounds(entries=100, keys=3))
    assert (exact.unread, exact.held, exact.handlers["crm"].waiting) == (400, 5, 30)
    assert exact.unread_counted
    assert exact.held_counted
    assert exact.handlers["crm"].counted
    assert not bounded.unread_counted
    assert not bounded.held_counted
    assert not bounded.handlers["crm"].counted
    assert (
        replace(
            bounded,
            unread_counted=True,
            held_counted=True,
            handlers={"crm": replace(bounded.handlers["crm"], counted=True)},
        )
        == exact
    )


def test_bodies_bound_the_count_too(partition: Partition) -> None:
    partition.append(*[change("t", seq, pad=10_000) for seq in range(40)])
    assert ledger.take(partition.scripts, partition.keys, [], Bounds(size=1_000_000)).unread_counted
    assert not ledger.take(partition.scripts, partition.keys, [], Bounds(size=100_000)).unread_counted


class _Meanwhile(Scripts):
    """Does something before each page is counted."""

    def __init__(self, partition: Partition, *steps: Any) -> None:
        super().__init__(partition.client)
        self._steps = list(steps)

    def run(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        if name == "unread" and self._steps:
            self._steps.pop(0)()
        return super().run(name, keys, args)


@pytest.mark.parametrize("read_on", [[], [100], [0, 300], [0, 0, 250], [700]], ids=str)
def test_unread_deliveries_are_counted_while_the_sequencer_goes_on(partition: Partition, read_on: list[int]) -> None:
    """What it reads, or the ingress adds, between two pages makes no difference."""
    partition.append(*[change("t", seq) for seq in range(1, 801)])
    books = ledger.take(partition.scripts, partition.keys, [], Bounds(entries=10))
    lease = partition.acquire()

    def step(count: int) -> Any:
        return lambda: (partition.append(change("t", 9000 + count)), count and partition.step(lease, count=count))

    scripts = _Meanwhile(partition, *map(step, read_on))
    counted = ledger.count_unread(scripts, partition.keys, books)
    assert (counted.unread_counted, counted.unread, counted.drift) == (True, 800, 0)


def test_a_sequencer_that_overtakes_the_count_leaves_it_open(partition: Partition) -> None:
    partition.append(*[change("t", seq) for seq in range(1, 801)])
    books = ledger.take(partition.scripts, partition.keys, [], Bounds(entries=10))
    lease = partition.acquire()
    scripts = _Meanwhile(partition, lambda: None, lambda: partition.step(lease, count=790))
    assert ledger.count_unread(scripts, partition.keys, books) == books
    assert not books.unread_counted


def test_looking_gives_ages_and_lanes(partition: Partition) -> None:
    assert look(partition.scripts, partition.keys, ["crm"]).handlers["crm"].lanes == 0
    partition.client.xadd(partition.keys.inbox, {"b": change("t", 1)}, id="1000-0")
    partition.client.xadd(partition.keys.inbox, {"b": change("u", 1)}, id="2000-0")
    before = look(partition.scripts, partition.keys, ["crm"])
    assert before.unread_ms == before.now - 1000
    assert not before.sequencing
    lease = partition.acquire()
    partition.step(lease, policy=PATIENT, count=1)
    held = look(partition.scripts, partition.keys, ["crm"])
    # The first event ever of a team waits; it came long ago, but nothing is due while only one was read.
    assert (held.unread_ms, held.sequencing) == (held.now - 2000, True)
    assert held.held_ms == held.now - 1000
    partition.step(lease)
    after = look(partition.scripts, partition.keys, ["crm"])
    crm = after.handlers["crm"]
    assert (after.unread_ms, after.held_ms) == (None, None)
    assert (crm.lanes, crm.due, crm.claimed, crm.backing_off) == (2, 2, 0, 0)
    assert crm.oldest_ms == after.now - 1000


def test_many_claims_are_estimated(partition: Partition) -> None:
    lanes = 4 * MOST
    ready, claims = partition.keys.ready("crm"), partition.keys.claims("crm")
    partition.client.zadd(ready, {f"t{number}": 9e12 for number in range(lanes)})
    partition.client.hset(claims, mapping={f"t{number}": f"{number % 2} 1 1" for number in range(lanes)})
    crm = look(partition.scripts, partition.keys, ["crm"]).handlers["crm"]
    assert (crm.lanes, crm.due) == (lanes, 0)
    assert lanes * 0.25 < crm.claimed < lanes * 0.75
    assert crm.backing_off == lanes - crm.claimed


def test_the_number_of_partitions_can_be_read_without_deciding_it(partition: Partition) -> None:
    assert stored_partitions(partition.client, partition.settings) is None
    assert not partition.client.exists(f"{partition.settings.prefix}:config")
    assert fix_partitions(partition.client, partition.settings) == 4
    assert stored_partitions(partition.client, partition.settings) == 4
