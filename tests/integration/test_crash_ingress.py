"""The front door is killed at each of its points: what it answered 202 is stored, and the rest comes again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from tests import processes
from tests.crashpoints import killing
from tests.crashpoints.killing import Order
from tests.crashpoints.points import INGRESS, INTAKE_WRITE, When, name_of, of_wrapped
from tests.ingress_kit import PLAIN, SECRET, Ingress, ingress, signed
from tests.servers import free_port
from tests.store_kit import change, partition_on, to
from worker.store.client import connect
from worker.store.keys import PartitionKeys
from worker.store.lanes import due
from worker.store.scripts import Scripts

LONG = [
    *(name_of(INTAKE_WRITE, when) for when in When),
    *of_wrapped(*INGRESS),
    "bell.ring.before",
    "bell.ring.after",
]
SHORT = ["intake.batch.after", "intake.write.torn", "intake.write.unread", "intake.reply.after", "ringer.take.after"]
POINTS = LONG if "CRASH_EVERY" in os.environ else SHORT
TOGETHER = 5  # deliveries


@pytest.fixture(scope="module")
def survivor(server_url: str) -> Iterator[Ingress]:
    """Another front door beside the one that dies, to which the provider comes next."""
    with ingress(server_url, "front", PARTITIONS="1") as found:
        yield found


@pytest.mark.parametrize("point", POINTS)
def test_what_was_answered_is_stored_and_what_was_not_comes_again(
    server_url: str, survivor: Ingress, tmp_path: Path, point: str
) -> None:
    keys = PartitionKeys("front", 0)
    with redis.Redis.from_url(server_url) as client:
        client.delete(*(client.keys(f"{keys.base}:*") or [keys.inbox]))
        client.script_flush()  # where other tests have left that for bells, none is the thread's to ring
    bodies = [change(f"{point}-{number}", 1) for number in range(TOGETHER)]
    killing.give(tmp_path, [Order(point, -1)])
    port = free_port()
    settings = {
        "HANDOFF_REDIS_URL": server_url,
        "HANDOFF_PREFIX": "front",
        "HANDOFF_WEBHOOK_SECRET": SECRET,
        "HANDOFF_BIND": f"127.0.0.1:{port}",
        killing.ORDERS: str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = processes.python("tests.crashpoints.killing", "ingress")
    with processes.running(command, settings) as dying:
        dying.wait_for_output("listening")
        with ThreadPoolExecutor(TOGETHER) as senders:
            answered = list(senders.map(lambda body: _post(port, body), bodies))
        assert dying.wait() == -9, dying.output
    assert list(killing.deaths(tmp_path)) == [0], "nobody died at this point"
    with partition_on(server_url, "front") as partition:
        partition.keys = keys
        stored = [fields[1] for _, fields in partition.client.xrange(keys.inbox)]
        assert set(stored) <= set(bodies)
        assert {body for body, ok in zip(bodies, answered, strict=True) if ok} <= set(stored)
        for body, ok in zip(bodies, answered, strict=True):
            assert ok or survivor.post(body).status_code == 202
        # Whoever died with the bell in hand: it is taken for lost, and rung again.
        _until_the_sweeper_rings(server_url, keys)
        partition.sequence(route=to("crm"))
        books = partition.balanced("crm")
        assert books.ledger["released"] == TOGETHER


def _post(port: int, body: bytes) -> bool:
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}{PLAIN}", content=body, headers=signed(body), timeout=30)
    except httpx.HTTPError:
        return False
    return answer.status_code == 202


def _until_the_sweeper_rings(url: str, keys: PartitionKeys) -> None:
    from worker.settings import Settings

    with connect(Settings(redis_url=url, prefix="front")) as client:
        scripts = Scripts(client)
        processes.until(lambda: due(scripts, keys, []).sequencer, "the sweeper has to ring", pause=0.1)
