"""What a delivery costs the ingress, counted and not timed: what grows with the deliveries of a batch is in here."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import redis

import ingress.link
from ingress.bodies import Bodies
from ingress.intake import Intake
from ingress.line import Outcome
from ingress.link import Link
from ingress.metrics import Metrics
from tests.ingress_kit import PARTITIONS
from worker.settings import Settings
from worker.store.keys import PartitionKeys

MANY = 200


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Calls of what makes a task, a future or a timer, what is sent to the server, and how many commands that is."""
    counts: Counter[str] = Counter()
    loop = asyncio.SelectorEventLoop
    for name in ("create_task", "create_future", "call_at"):
        make = getattr(loop, name)

        def counting(*args: Any, name: str = name, make: Any = make, **options: Any) -> Any:
            counts[name] += 1
            return make(*args, **options)

        monkeypatch.setattr(loop, name, counting)
    exchange = Link.exchange

    async def exchanging(self: Link, commands: list[bytes], *terms: Any) -> None:
        counts["writes"] += 1
        counts["commands"] += len(commands)
        await exchange(self, commands, *terms)

    monkeypatch.setattr(Link, "exchange", exchanging)
    monkeypatch.setattr(ingress.link, "HELD", 3600.0)
    return counts


async def stored(intake: Intake, count: int) -> list[Outcome]:
    """Submit so many in one turn of the loop, and wait without a task of ours for each."""
    futures = [intake.submit(number % PARTITIONS, b"x" * 1500, None) for number in range(count)]
    return [await future for future in futures]


@pytest.mark.server
def test_deliveries_that_come_together_cost_one_task_one_timer_and_one_write(
    settings: Settings, client: redis.Redis, counted: Counter[str]
) -> None:
    """Of what the loop has to keep account of, each delivery has a future, for which its request waits; all the rest is
    the batch's, and as much for one delivery as for two hundred. A task or a timer for each takes as long as checking
    its signature, and a future for each reply took longer than all else."""

    async def scenario() -> None:
        intake = Intake(settings.address, Metrics(), lambda _partitions: None)
        await intake.open(settings.prefix, PARTITIONS)
        await stored(intake, 1)  # makes the connection to the server
        found = []
        for count in (1, MANY):
            counted.clear()
            assert set(await stored(intake, count)) == {Outcome.STORED}
            counted["create_future"] -= count
            found.append({name: counted[name] for name in counted if name != "commands"})
        assert found[0] == found[1]
        assert (found[1]["writes"], found[1]["create_task"], found[1]["call_at"]) == (1, 1, 1)
        assert counted["commands"] == MANY + PARTITIONS, "an XADD for each, and a bell for each partition"
        await intake.close()

    asyncio.run(scenario())
    assert sum(client.xlen(PartitionKeys(settings.prefix, number).inbox) for number in range(PARTITIONS)) == MANY + 2


def test_bodies_of_the_usual_size_share_one_timer(counted: Counter[str]) -> None:
    """Setting one for each request, and taking it back, was a tenth of what the loop's thread did."""

    async def scenario() -> None:
        bodies, loop = Bodies(10_000), asyncio.get_running_loop()

        headers: Any = {"content-length": "1500"}

        def arrived() -> asyncio.Future[bytes]:
            here: asyncio.Future[bytes] = loop.create_future()
            here.set_result(b"x" * 1500)
            return here

        arriving: Any = arrived

        for _ in range(MANY):
            await bodies.read(headers, arriving)
        assert counted["call_at"] == 1

    asyncio.run(scenario())
