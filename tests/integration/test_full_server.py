"""A state server without any free memory, which carries the bells too, empties by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingress.signature import HEADER, sign
from tests.processes import until
from tests.road import Road, running_road
from tests.store_kit import change

pytestmark = pytest.mark.server

HANDLER = """
from pathlib import Path
from worker import handler

@handler()
def note(change, ctx):
    with Path("calls").open("a") as calls:
        calls.write(f"{change.team_id} {change.seq}\\n")
"""
TEAMS = 3
EVENTS = 20


def post(road: Road, body: bytes) -> int:
    headers = {HEADER: sign(body, road.secret, road.now())}
    return road.http.post("/webhooks/inbox", content=body, headers=headers).status_code


def test_a_worker_that_starts_on_a_full_server_drains_it(tmp_path: Path) -> None:
    """It can announce its handlers, take leases and ring; then there is room again and the ingress opens."""
    (tmp_path / "noting.py").write_text(HANDLER)
    with running_road(tmp_path, handlers="noting", workers=0, archive_events="0") as road:
        for seq in range(1, EVENTS + 1):
            assert {post(road, change(f"t{team}", seq, assignee=f"m{seq}")) for team in range(TEAMS)} == {202}
        road.client.delete("handoff:broker:handoff.sequence")  # the sweeper has to ring, and for that to lead
        road.client.config_set("maxmemory-policy", "noeviction")
        road.client.config_set("maxmemory", 1)
        until(lambda: post(road, change("t9", 1)) == 503, "full")
        road.start_worker()
        road.wait_until_done()
        calls = (tmp_path / "calls").read_text().split("\n")[:-1]
        for team in range(TEAMS):
            assert [line for line in calls if line.startswith(f"t{team} ")] == [
                f"t{team} {seq}" for seq in range(1, EVENTS + 1)
            ]
        assert len(calls) == TEAMS * EVENTS
        road.client.config_set("maxmemory", 0)
        until(lambda: post(road, change("t9", 1)) == 202, "open again")
        road.wait_until_done()
