"""Batch handlers beside the same handler without: items a second of one process, calls of 50 ms, many teams.

    python -m tests.bench.batches [teams] [changes]

In this process, over several partitions in turn, on an embedded server: what the Celery around it would add is the same
for both. The far side is a sleep, as many calls at once as it gets.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from tests import servers
from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change, partition_on, to
from worker import AssigneeChange, BatchContext, Context
from worker.core.handlers import HandlerSpec
from worker.runtime.runner import Runner
from worker.store.keys import PartitionKeys, partition_of

CALL = 0.05  # seconds
PARTITIONS = 4  # as store_kit makes them


class Far:
    """The far side, which counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.items = 0
        self.began = 0.0

    def took(self, items: int) -> None:
        self.began = self.began or time.monotonic()
        self.calls += 1
        self.items += items


def contenders(far: Far) -> dict[str, HandlerSpec]:
    async def one(subject: AssigneeChange, ctx: Context) -> None:
        far.took(1)
        await asyncio.sleep(CALL)

    async def many(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        far.took(len(changes))
        await asyncio.sleep(CALL)

    def plain(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        far.took(len(changes))
        time.sleep(CALL)

    made: Callable[..., HandlerSpec] = spec_of
    return {
        "async, one by one": made(one),
        "plain, batch=100": made(plain, batch=100),
        "async, batch=100, 4 calls at once": made(many, batch=100, concurrency=4),
        "async, batch=100": made(many, batch=100),
    }


def fill(partition: Partition, numbers: range, teams: int, changes: int) -> None:
    """The changes in turn over the teams, as many batches as the sequencer would make."""
    bodies: dict[int, list[bytes]] = {number: [] for number in numbers}
    for at in range(changes):
        team = f"team-{at % teams}"
        body = change(team, at // teams + 1, prospect=f"p{at}", pad=1000)
        bodies[partition_of(team, PARTITIONS)].append(body)
    for number, found in bodies.items():
        part = Partition(partition.settings, partition.client, PartitionKeys(partition.settings.prefix, number))
        for first in range(0, len(found), 1000):
            part.sequence(*found[first : first + 1000], route=to("crm"))


def measure(url: str, prefix: str, spec: HandlerSpec, far: Far, teams: int, changes: int) -> str:
    with partition_on(url, prefix) as partition:
        numbers = range(PARTITIONS)
        fill(partition, numbers, teams, changes)
        process, _ = process_of(partition, spec)
        far.calls, far.items, far.began = 0, 0, 0.0
        cpu = time.process_time()
        keys: Any = [PartitionKeys(prefix, number).ready("crm") for number in numbers]
        while partition.client.exists(*keys):
            for number in numbers:
                Runner(process, spec, number).run()
        took, cpu = time.monotonic() - far.began, time.process_time() - cpu
    assert far.items == changes
    return f"{changes / took:9,.0f} items/s {far.calls:7,} calls of {changes / far.calls:5.1f} {cpu / took:6.0%} CPU"


def main() -> None:
    teams = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    changes = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    far = Far()
    print(f"{changes:,} changes of {teams} teams, a call takes {CALL * 1000:.0f} ms, one process")
    with servers.running("valkey") as url:
        for number, (name, spec) in enumerate(contenders(far).items()):
            print(f"{name:34} {measure(url, f'bench{number}', spec, far, teams, changes)}", flush=True)


if __name__ == "__main__":
    main()
