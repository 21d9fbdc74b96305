"""How much waits and how full the server is, as the server itself says it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis

from tests.store_kit import Partition
from worker.store.backlog import SLICE, Command, Measured, Scale, Steps, measure
from worker.store.keys import PartitionKeys

BIG = 1_000_000


def inboxes(partition: Partition, count: int) -> list[PartitionKeys]:
    return [PartitionKeys(partition.keys.prefix, number) for number in range(count)]


def fill(partition: Partition, keys: PartitionKeys, *sizes: int) -> None:
    pipe = partition.client.pipeline(transaction=False)
    for size in sizes:
        pipe.xadd(keys.inbox, {"b": b"x" * size})
    pipe.execute()


def near(measured: Measured, bodies: int) -> bool:
    """A server keeps some bytes more for each entry and each node; Redis 7 a tenth, where entries are large."""
    return bodies <= measured.size <= 1.15 * bodies


def test_nothing_waits_at_first(partition: Partition) -> None:
    measured = measure(partition.client, Scale(inboxes(partition, 4)))
    assert (measured.events, measured.size, measured.max_memory, measured.refused) == (0, 0, 0, frozenset())
    assert measured.memory > 0


@pytest.mark.parametrize("sizes", [(200,) * 5000 + (BIG,) * 9, (BIG,) * 9 + (200,) * 5000])
def test_bytes_are_exact_however_sizes_are_mixed(partition: Partition, sizes: tuple[int, ...]) -> None:
    keys = inboxes(partition, 2)
    fill(partition, keys[0], *sizes)
    fill(partition, keys[1], 1600, 1600)
    measured = measure(partition.client, Scale(keys))
    assert measured.events == len(sizes) + 2
    assert near(measured, sum(sizes) + 3200)


def test_what_only_the_archive_keeps_is_not_waiting(partition: Partition) -> None:
    fill(partition, partition.keys, *(10_000,) * 10)
    partition.client.hset(partition.keys.ledger, mapping={"kept": 4, "kept_bytes": 40_000})
    measured = measure(partition.client, Scale([partition.keys]))
    assert measured.events == 6
    assert near(measured, 60_000)


def test_partitions_take_turns_where_there_are_more_nodes_than_one_look_may_read(partition: Partition) -> None:
    """Until it is its turn, a partition's entries are taken to be as large as when it was last measured."""
    keys = inboxes(partition, 3)
    for each, size in zip(keys, (1000, 2000, 3000), strict=True):
        fill(partition, each, *(size,) * 40)
    scale = Scale(keys, nodes=50)
    for sizes in ((1000, 1000, 1000), (1000, 2000, 1500), (1000, 2000, 3000), (1000, 2000, 3000)):
        assert near(measure(partition.client, scale), 40 * sum(sizes))
    fill(partition, keys[0], *(1000,) * 40)
    assert near(measure(partition.client, scale), 40 * 7000)


def test_empty_partitions_cost_no_look(partition: Partition) -> None:
    """And hundreds of them are asked in steps."""
    keys = inboxes(partition, SLICE + 7)
    fill(partition, keys[-1], 5000)
    asked: list[Sequence[Command]] = []
    assert answered(partition, Scale(keys).steps(), asked).events == 1
    assert max(len(commands) for commands in asked) <= SLICE
    assert [command[2] for commands in asked for command in commands if command[0] == "MEMORY"] == [keys[-1].inbox]


def answered(partition: Partition, steps: Steps, asked: list[Sequence[Command]]) -> Measured:
    try:
        asked.append(next(steps))
        while True:
            asked.append(steps.send([partition.client.execute_command(*command) for command in asked[-1]]))
    except StopIteration as end:
        measured: Measured = end.value
        return measured


def test_memory_is_what_the_server_holds_against_its_bound(partition: Partition) -> None:
    partition.client.config_set("maxmemory", 500_000_000)
    try:
        measured = measure(partition.client, Scale([partition.keys]))
    finally:
        partition.client.config_set("maxmemory", 0)
    assert measured.max_memory == 500_000_000
    assert measured.memory == pytest.approx(partition.client.info("memory")["used_memory"], rel=0.2)


def test_a_user_without_the_right_to_measure_still_counts(partition: Partition) -> None:
    partition.client.execute_command(
        "ACL", "SETUSER", "narrow", "on", "nopass", "~*", "+@all", "-memory|usage", "-info"
    )
    fill(partition, partition.keys, 1000)
    with redis.Redis.from_url(partition.settings.redis_url, username="narrow", password="none") as client:
        measured = measure(client, Scale([partition.keys]))
    assert measured == Measured(1, 0, 0, 0, frozenset({"MEMORY USAGE", "INFO"}))


def test_any_other_error_is_raised(partition: Partition) -> None:
    partition.client.set(partition.keys.inbox, "no stream")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        measure(partition.client, Scale([partition.keys]))
