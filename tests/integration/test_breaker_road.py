"""A far side that is down for a while, real workers, and real HTTP between them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from ingress.signature import sign
from tests.processes import until
from tests.road import DEADLINE, Road, running_road
from tests.store_kit import change
from worker.store.client import connect
from worker.store.control import Control, ControlStore
from worker.store.scripts import Scripts

TEAMS = [f"team{number}" for number in range(8)]


class FarSide(ThreadingHTTPServer):
    """Answers 503 until it is ``up``; then remembers what it is told, and answers 200."""

    up = False
    refused = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.told: list[tuple[str, int]] = []
        self.lock = threading.Lock()


class _Request(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        far: FarSide = self.server  # type: ignore[assignment]
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with far.lock:
            if far.up:
                far.told.append((told["team"], told["seq"]))
            else:
                far.refused += 1
            self.send_response(200 if far.up else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def far_side(folder: Path) -> Iterator[FarSide]:
    with FarSide() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        (folder / "far_side").write_text(f"http://127.0.0.1:{server.server_port}")
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def post(road: Road, seqs: range) -> None:
    with httpx.Client(base_url=road.url, timeout=10) as client:
        for body in (change(team, seq, assignee=f"m{seq}") for seq in seqs for team in TEAMS):
            headers = {"X-Inbox-Signature": sign(body, road.secret, road.now())}
            assert client.post("/webhooks/inbox", content=body, headers=headers).status_code == 202


def control(road: Road) -> Control:
    with connect(road.settings) as client:
        return ControlStore(client, Scripts(client), road.settings.prefix, "push").read()


def noted(road: Road, what: str) -> int:
    """How often the workers logged it."""
    return sum(process.output.count(what) for process in road.workers)


def paused_for(road: Road) -> int:
    found = control(road)
    return found.now - found.paused.at if found.paused is not None else 0


def delivered(far: FarSide) -> dict[str, list[int]]:
    return {team: [seq for name, seq in far.told if name == team] for team in TEAMS}


def everything_up_to(seq: int) -> dict[str, list[int]]:
    return {team: list(range(1, seq + 1)) for team in TEAMS}


def test_an_outage_and_a_pause_end_with_everything_delivered_once_and_in_order(tmp_path: Path) -> None:
    """Three attempts within a second would be all of a job's, and are far less than the outage takes."""
    breaker = {"handler_push_breaker": "pause=200ms longest=400ms"}
    with (
        far_side(tmp_path) as far,
        running_road(tmp_path, handlers="tests.integration.outage_handlers", workers=2, **breaker) as road,
    ):
        post(road, range(1, 5))
        until(lambda: noted(road, "circuit_opened"), "the circuit opens", DEADLINE)
        until(lambda: noted(road, "probe_failed") >= 5, "five probes fail", DEADLINE)
        assert control(road).circuit.error == "HTTPStatusError"
        # Of calls that are no probes there are those that opened it, and whoever was under way.
        assert far.refused <= noted(road, "probe_failed") + 1 + 4 * len(TEAMS)
        post(road, range(5, 6))
        far.up = True
        road.wait_until_done()
        assert delivered(far) == everything_up_to(5)
        assert noted(road, "circuit_closed")
        assert not control(road).circuit.opened

        assert road.handoff("handlers", "pause", "push").returncode == 0
        until(lambda: paused_for(road) > 1000, "the second in which calls may still begin")
        post(road, range(6, 8))
        until(lambda: sum(b.handlers["push"].waiting for b in road.books()) == 2 * len(TEAMS), "all came in", DEADLINE)
        assert delivered(far) == everything_up_to(5)
        assert road.handoff("handlers", "resume", "push").returncode == 0
        road.wait_until_done()
        assert delivered(far) == everything_up_to(7)
        books = [book.handlers["push"] for book in road.books()]
        assert (sum(book.done for book in books), sum(book.dead for book in books)) == (7 * len(TEAMS), 0)
