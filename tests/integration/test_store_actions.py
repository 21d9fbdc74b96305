"""The audit records of what people did."""

from __future__ import annotations

from tests.store_kit import Partition
from worker.store import actions

ON_A_CLUSTER = True


def record(partition: Partition, what: str, *, count: int = 0, instead_of: str | None = None, ids: int = 1) -> str:
    return actions.record(
        partition.client,
        partition.settings.prefix,
        who="ada@crm-1",
        what=what,
        args={"ids": ["1:1-0"] * ids},
        count=count,
        instead_of=instead_of,
    )


def test_the_newest_come_first(partition: Partition) -> None:
    ids = [record(partition, what) for what in ("dead retry", "dead drop", "lanes pause")]
    found = actions.recent(partition.client, partition.settings.prefix, 2)
    assert [done.id for done in found] == ids[:0:-1]
    assert (found[0].who, found[0].what, found[0].args) == ("ada@crm-1", "lanes pause", {"ids": ["1:1-0"]})
    assert found[0].at >= found[1].at > 0


def test_what_was_done_takes_the_place_of_what_was_begun(partition: Partition) -> None:
    begun = record(partition, "dead retry")
    record(partition, "dead retry", count=7, instead_of=begun)
    (done,) = actions.recent(partition.client, partition.settings.prefix, 10)
    assert done.count == 7


def test_arguments_are_bounded(partition: Partition) -> None:
    record(partition, "dead retry", ids=10_000)
    (done,) = actions.recent(partition.client, partition.settings.prefix, 10)
    assert list(done.args) == ["cut"]
    assert len(done.args["cut"]) <= actions.LONGEST
