"""After an outage: what was given up is called, once and in order, when the handler is mended and a person says so."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from ingress.signature import HEADER, sign
from tests.processes import until
from tests.road import DEADLINE, Road, running_road
from tests.store_kit import change
from worker.store.keys import PartitionKeys

TEAMS = ("acme", "beta", "gamma")


def post(road: Road, body: bytes) -> None:
    headers = {HEADER: sign(body, road.secret, road.now())}
    assert httpx.post(f"{road.url}/webhooks/inbox", content=body, headers=headers).status_code == 202


def lines(road: Road, handler: str) -> dict[str, list[str]]:
    return {team: road.client.lrange(f"{handler}:{team}", 0, -1) for team in TEAMS}


def test_what_was_given_up_is_done_exactly_once_when_the_handler_is_mended(tmp_path: Path) -> None:
    with running_road(tmp_path, handlers="tests.integration.mending_handlers") as road:
        road.client.set("broken", 1)
        for team in TEAMS:
            for seq in (1, 2, 3):
                post(road, change(team, seq, prospect=f"p{seq}", assignee="m1"))
        post(road, change("acme", 4, prospect="p1", assignee="m2"))

        def given_up() -> bool:
            dead = sum(found.handlers["skipping"].dead for found in road.books() if found.handlers)
            keys = [PartitionKeys(road.settings.prefix, number) for number in range(16)]
            return (dead, sum(road.client.hlen(each.blocked("blocking")) for each in keys)) == (10, 3)

        until(given_up, "all is given up, or blocked", DEADLINE)
        road.client.delete("broken")

        retried = road.handoff("dead", "retry", "--all", "--yes", "--json")
        assert retried.returncode == 1
        assert {name: json.loads(retried.stdout)[name] for name in ("retried", "stale")} == {"retried": 9, "stale": 1}
        assert road.handoff("lanes", "unblock", "blocking", "--all", "--yes").returncode == 0
        road.wait_until_done()
        every = ["1 late", "2 late", "3 late"]
        assert lines(road, "skipping") == {"acme": ["2 late", "3 late", "4 late"], "beta": every, "gamma": every}
        ordered = ["1 ordered", "2 ordered", "3 ordered"]
        assert lines(road, "blocking") == {"acme": [*ordered, "4 ordered"], "beta": ordered, "gamma": ordered}

        assert road.handoff("dead", "drop", "--stale", "--yes").returncode == 0
        assert road.handoff("status").returncode == 0  # nothing is left for a person, and the books add up
