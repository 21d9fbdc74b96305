"""What a sequencer reads at once is bounded in bytes, whatever was sent."""

from __future__ import annotations

from random import Random

import pytest

from tests.store_kit import Partition, change, partition_on
from worker.core.sequencing import Delivery
from worker.store.batch import Batch
from worker.store.sequence import PAGE, SequenceStore

KIB = 1024

ON_A_CLUSTER = True


def sizes(batch: Batch) -> list[int]:
    return [delivery.size for delivery in batch.deliveries if isinstance(delivery, Delivery)]


def bodies(*lengths: int) -> list[bytes]:
    plain = len(change("a", 1000))
    return [change("a", 1000 + at, pad=length - plain) for at, length in enumerate(lengths)]


def test_big_bodies_after_small_ones_are_not_read_together(partition: Partition) -> None:
    partition.append(*bodies(*(500,) * 30, *(KIB * KIB,) * 12))
    batch = partition.store.read(partition.acquire(), 512)
    assert sizes(batch) == [500] * 30 + [KIB * KIB] * 4
    assert not batch.drained


def test_one_that_is_larger_than_the_bound_is_read_alone(partition: Partition) -> None:
    partition.append(*bodies(5000, 9000, 500))
    lease = partition.acquire()
    for expected, drained in (([5000], False), ([9000], False), ([500], True)):
        batch = partition.store.read(lease, 512, 5000)
        assert (sizes(batch), batch.drained) == (expected, drained)
        lease.cursor = batch.deliveries[-1][0]


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_the_end_is_known_from_what_is_not_there(partition: Partition, count: int) -> None:
    partition.append(*bodies(*(500,) * PAGE))
    batch = partition.store.read(partition.acquire(), count)
    assert len(batch.deliveries) == min(count, PAGE)
    assert batch.drained == (count > PAGE)


def test_nothing_to_read_is_drained(partition: Partition) -> None:
    batch = partition.store.read(partition.acquire(), 512)
    assert (batch.deliveries, batch.drained) == ([], True)


def test_the_largest_bodies_that_may_be_sent_bound_what_the_server_looks_at(any_server_url: str, prefix: str) -> None:
    """A page of them is never more than a few megabytes: one at a time of the very largest."""
    for max_body, page in ((1024, PAGE), (1024**2, PAGE), (4 * 1024**2, 4), (64 * 1024**2, 1)):
        with partition_on(any_server_url, prefix, max_body=max_body) as made:
            store: SequenceStore = made.store
            assert store._page == page


@pytest.mark.parametrize("seed", range(5))
def test_however_it_is_cut_all_is_read_once_and_in_order(partition: Partition, seed: int) -> None:
    random = Random(seed)
    lengths = [random.choice([300, 400, 3000, 20_000]) for _ in range(120)]
    entries = partition.append(*bodies(*lengths))
    lease = partition.acquire()
    found: list[str] = []
    while len(found) < len(entries):
        most = random.choice([1, 3000, 50_000])
        batch = partition.store.read(lease, random.choice([1, 7, PAGE, 99]), most)
        assert sum(sizes(batch)[:-1]) < most
        assert not batch.drained or found + [entry for entry, *_ in batch.deliveries] == entries
        found += [delivery[0] for delivery in batch.deliveries]
        lease.cursor = found[-1]
    assert found == entries
