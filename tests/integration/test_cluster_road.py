"""The whole road with its state in a cluster of three nodes and its doorbells on another server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import servers, topologies
from tests.loads import Load, calls_in, out_of_order, times
from tests.processes import until
from tests.road import Road, running_road
from worker.settings import Settings
from worker.store.client import connect
from worker.store.cluster import servers as nodes_of
from worker.store.keys import PartitionKeys, partition_of
from worker.store.scripts import NAMES, digest, source

pytestmark = pytest.mark.timeout(300)

TEAMS = [f"team{number}" for number in range(6)]
HANDLERS = ("plain", "awaited", "rated", "batched")
START = 90.0  # seconds; only ever used up by a failure


def inbox_of(team: str) -> str:
    return PartitionKeys("handoff", partition_of(team, 16)).inbox


def commands(road: Road) -> None:
    """What an operator asks for; each of these looks at all partitions, or changes something in them."""
    (road.folder / "calls.mended").touch()
    for words in (["status", "--json"], ["lanes", "list"], ["dead", "retry", "--all", "--yes"], ["explain", "team0-1"]):
        done = road.handoff(*words)
        assert done.returncode in (0, 1), (words, done.stderr)  # 1: a person is needed, as for the dead letter
        assert "Traceback" not in done.stderr


def test_everything_works_and_a_slot_moves_meanwhile(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    with (
        topologies.cluster(servers.KINDS[0]) as cluster,
        running_road(tmp_path, handlers="tests.integration.steady_handlers", state=cluster.url, gap_wait="1s") as road,
    ):
        with Load(road.url, road.secret, [*TEAMS, "broken"], pause=0.2) as load:
            until(lambda: len(calls_in(calls)) > 60, "work is done", START)
            cluster.move(inbox_of(TEAMS[0]), refusals=3)
            moved = time.time()
            until(lambda: TEAMS[0] in {team for team, _ in load.accepted_since(moved)}, "accepted where it moved to")
            until(lambda: len(load.accepted_since(moved)) > 30, "the load goes on", START)
        commands(road)
        road.wait_until_done()
        seen = calls_in(calls)
        for name in HANDLERS:
            assert out_of_order(seen, name) == [], name
            assert set(times(seen, name)) >= set(load.accepted), name
            assert max(times(seen, name).values()) == 1, name
        for books in road.books():
            assert (books.drift, {one.drift for one in books.handlers.values()}) == (0, {0})
        assert road.handoff("audit").returncode == 0
        assert topologies.refused(cluster.primaries) == []


def test_a_node_that_dies_stops_its_own_partitions_and_no_others(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    calls = tmp_path / "calls"
    with (
        topologies.cluster(servers.KINDS[-1]) as cluster,
        running_road(tmp_path, handlers="tests.integration.steady_handlers", state=cluster.url, gap_wait="1s") as road,
        connect(Settings(redis_url=cluster.url, broker_url="memory://")) as client,
    ):
        with Load(road.url, road.secret, TEAMS, pause=0.2) as load:
            until(lambda: len(calls_in(calls)) > 60, "work is done", START)
            doomed = cluster.owner(inbox_of(TEAMS[0]))
            others = {team for team in TEAMS if cluster.owner(inbox_of(team)) is not doomed}
            assert others
            doomed.kill()
            killed = time.time()
            until(
                lambda: others <= {team for team, _ in load.accepted_since(killed + 2)},
                "the others are accepted",
                START,
            )
            assert TEAMS[0] not in {team for team, _ in load.accepted_since(killed + 1)}
            began = time.time()
            doomed.start()
            until(lambda: TEAMS[0] in {team for team, _ in load.accepted_since(began)}, "it is accepted again", START)
            again = min(at for (team, _), at in load.accepted.items() if team == TEAMS[0] and at > began) - began
            record_property("accepted_again_s", again)
            print(f"accepted again {again:.1f} s after the node was started")
            until(lambda: len(load.accepted_since(began)) > 30, "the load goes on", START)
        road.wait_until_done()
        seen = calls_in(calls)
        for name in HANDLERS:
            assert out_of_order(seen, name) == [], name
            assert set(times(seen, name)) >= set(load.accepted), name
        for books in road.books():
            assert (books.drift, {one.drift for one in books.handlers.values()}) == (0, {0})
        ran = {name for name in NAMES for node in nodes_of(client) if node.script_exists(digest(source(name)))[0]}
        assert {"acquire", "claim", "commit", "settle", "take", "due"} <= ran
