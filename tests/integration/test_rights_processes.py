"""The ingress and a worker, each alone under its user of deploy/users.acl: everything works, and no right is idle.

What the other would have done is done beforehand by the tests' own user, so all that is seen on the server is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests import access, processes, servers
from tests.ingress_kit import PARTITIONS, event, inboxes, ingress
from tests.processes import until
from tests.rights_kit import check
from tests.store_kit import change, other
from tests.watching import watching
from worker.settings import Settings
from worker.store import ledger
from worker.store.installation import load_scripts
from worker.store.keys import PartitionKeys, partition_of
from worker.store.scripts import Scripts

pytestmark = pytest.mark.server

HANDLERS = "tests.integration.rights_handlers"
TEAMS = ("acme", "failing", "again", "gap", "beta")
NODE = "seen@here"
NAMES = ("plain", "blocking", "joined", "shared", "batched", "broken")
BLOCKED = 7  # jobs of one lane, whose first has failed
BELLS = "handoff:broker:handoff.sequence"


@pytest.fixture(params=servers.KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with servers.running(request.param, locked=True) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    """The tests' own connection: one, so that it can be told from those that are watched."""
    with redis.Redis.from_url(url, single_connection_client=True) as found:
        yield found


def test_an_ingress_has_the_rights_that_it_needs_and_no_other(url: str, client: redis.Redis) -> None:
    own = access.as_user(url, "ingress")
    with watching(url, client) as used, ingress(own, "handoff") as door, ingress(own, "handoff") as other_door:
        assert door.post(event("team", 1)).status_code == 202  # it rings itself: no worker has loaded the script
        until(lambda: client.llen(BELLS), "a bell")
        load_scripts(client, Settings(redis_url=url))
        for seq in range(1, 8):
            assert other_door.post(event(f"team{seq}", seq)).status_code == 202
        assert other_door.metric('handoff_ingress_bells_total{outcome="rung"}') == client.llen(BELLS) - 1
        until(lambda: "cmdstat_memory|usage" in client.info("commandstats"), "a look at how much there is")
    assert len(inboxes(client, "handoff")) == 8
    check("ingress", used, client)


def accepted() -> Iterator[tuple[str, bytes]]:
    """Changes of several prospects, doubled, late and above gaps; other events; what can't be read."""
    for team in TEAMS:
        for seq in (1, 2, 2, 3, 4, 5, 6, 7):
            yield team, change(team, seq, prospect=f"p{seq % 2}", assignee=f"m{seq}")
        yield team, other(team, 8)
        yield team, b"nonsense"
    for seq in (20, 18):
        yield "gap", change("gap", seq)


def test_a_worker_has_the_rights_that_it_needs_and_no_other(url: str, client: redis.Redis, tmp_path: Path) -> None:
    environment = {
        "HANDOFF_REDIS_URL": access.as_user(url, "worker"),
        "HANDOFF_PARTITIONS": str(PARTITIONS),
        "HANDOFF_HANDLERS": HANDLERS,
        "HANDOFF_GAP_WAIT": "50ms",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    keys = [PartitionKeys("handoff", partition) for partition in range(PARTITIONS)]
    options = ("-n", NODE, "-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat")
    celery = processes.python("celery", "-A", "worker")
    scripts = Scripts(client)
    with watching(url, client) as used:
        for team, body in accepted():
            client.xadd(keys[partition_of(team, PARTITIONS)].inbox, {"b": body, "t": team})
        with processes.running([*celery, "worker", *options], environment, tmp_path) as worker:

            def done() -> bool:
                assert worker.running, worker.output
                books = [ledger.take(scripts, of, NAMES) for of in keys]
                waiting = sum(book.waiting for each in books for book in each.handlers.values())
                return waiting == BLOCKED and not any(each.unread + each.held for each in books)

            until(done, "all is done that can be", pause=0.1, deadline=60)
            with processes.running(
                [*celery, "inspect", "ping", "-d", NODE, "--timeout", "30"], environment, tmp_path
            ) as asked:
                assert asked.wait(60) == 0, asked.output
            doctor = processes.python("worker.ops.cli", "doctor", "--worker")
            with processes.running(doctor, environment, tmp_path) as asked:
                assert asked.wait(60) == 0, asked.output
            assert worker.stop(60) == 0, worker.output
    check("worker", used, client)
