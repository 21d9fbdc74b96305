"""A cluster whose nodes have replicas: one is killed under load, its replica takes over, and every command works."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import access, servers, topologies
from tests.loads import Load, calls_in, out_of_order, times
from tests.processes import until
from tests.road import Road, running_road
from worker.store.keys import PartitionKeys, partition_of

pytestmark = pytest.mark.timeout(300)

TEAMS = [f"team{number}" for number in range(6)]
HANDLERS = ("plain", "awaited", "rated", "batched")
START = 90.0  # seconds; only ever used up by a failure
TAIL = 2.0  # seconds before the node's end, of which its replica may not have heard everything


def asked(road: Road, *words: str, codes: tuple[int, ...] = (0,)) -> Mapping[str, Any]:
    done = road.handoff(*words, "--json")
    assert done.returncode in codes, (words, done.stderr)
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    return found if isinstance(found, dict) else {"list": found}


def commands(road: Road, calls: Path) -> None:
    """What an operator does after such a night; each of these looks at all partitions, or changes something in some."""
    findings = asked(road, "doctor", codes=(0, 1))["findings"]
    print(findings)
    (letter,) = asked(road, "dead", "list", "--handler", "failing")["dead"]
    (calls.parent / f"{calls.name}.mended").touch()
    asked(road, "dead", "retry", letter["id"], "--yes")
    until(lambda: times(calls_in(calls), "failing")["broken", 1], "the dead letter is handled", START)
    asked(road, "lanes", "pause", "plain", "broken", "--yes")
    (lane,) = asked(road, "lanes", "list", "--paused")["lanes"]
    assert (lane["handler"], lane["team"]) == ("plain", "broken")
    asked(road, "lanes", "resume", "plain", "broken", "--yes")
    assert asked(road, "lanes", "list", "--paused")["lanes"] == []
    before = times(calls_in(calls), "plain")
    asked(road, "replay", "--to", "plain", "--team", "broken", "--yes")
    until(lambda: times(calls_in(calls), "plain")["broken", 1] > before["broken", 1], "it is replayed", START)


@pytest.mark.long
def test_a_replica_takes_over_under_load_and_every_command_works(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    calls = tmp_path / "calls"
    with topologies.cluster(servers.KINDS[0], replicas=True) as cluster:
        for each in (*cluster.primaries, *cluster.replicas):
            each.client.execute_command("ACL", "SETUSER", "handoff-ingress", *access.FSYNC.split())
        with running_road(
            tmp_path,
            handlers="tests.integration.steady_handlers",
            state=cluster.url,
            gap_wait="1s",
            durability="fsync",
        ) as road:
            with Load(road.url, road.secret, TEAMS) as load:
                until(lambda: len(calls_in(calls)) > 60, "work is done", START)
                doomed = cluster.owner(PartitionKeys("handoff", partition_of(TEAMS[0], 16)).inbox)
                doomed.kill()
                killed = time.time()
                until(lambda: TEAMS[0] in {team for team, _ in load.accepted_since(killed + 0.5)}, "it goes on", START)
                again = min(at for (team, _), at in load.accepted.items() if team == TEAMS[0] and at > killed + 0.5)
                record_property("accepted_again_s", again - killed)
                print(f"accepted again {again - killed:.1f} s after the node was killed")
                # Sent only now: what was accepted just before may be lost with the node.
                with Load(road.url, road.secret, ["broken"], pause=600) as one:
                    until(lambda: one.accepted, "the one that fails is accepted", START)
                until(lambda: len(load.accepted_since(again)) > 60, "the load goes on", START)
            road.wait_until_done()
            seen = calls_in(calls)
            for name in HANDLERS:
                assert out_of_order(seen, name) == [], name
                count = times(seen, name)
                lost = [at for place, at in load.accepted.items() if not count[place] and abs(at - killed) > TAIL]
                assert lost == [], name
            commands(road, calls)
            road.wait_until_done()
            for books in road.books():
                assert (books.drift, {one.drift for one in books.handlers.values()}) == (0, {0})
            assert road.handoff("audit").returncode == 0
            assert topologies.refused([*cluster.primaries, *cluster.replicas]) == []
