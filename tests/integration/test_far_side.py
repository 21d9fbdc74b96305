"""Handlers that call a misbehaving HTTP server, with a real client: what becomes of their jobs without their help."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import structlog

from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change, partition_on
from worker import AssigneeChange, Context
from worker.core.retry import Backoff
from worker.runtime.runner import Runner

SOON = Backoff(base=4.0, cap=4.0)  # its jitter is fixed to 1: an ordinary retry is due in 4 s
CUT, SILENT = "cut", "silent"


def answer(status: int, *headers: str, sent: float = 0.0) -> str:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=sent), usegmt=True)
    return "\r\n".join([f"HTTP/1.1 {status} So", f"Date: {date}", "Content-Length: 0", *headers, "", ""])


def date_in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


class FarSide:
    """Gives each connection the next answer of ``script``, as raw text, then closes it."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.recv(65536)
            said = self.script.pop(0)
            if said == SILENT:
                self._open.append(connection)
                continue
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf" if said == CUT else said.encode())
            connection.close()

    def close(self) -> None:
        self._socket.close()
        for connection in self._open:
            connection.close()


@pytest.fixture
def far_side() -> Iterator[FarSide]:
    found = FarSide()
    yield found
    found.close()


@pytest.fixture
def lanes(server_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Partition]:
    monkeypatch.setattr("random.random", lambda: 1.0)
    with partition_on(server_url, prefix) as found, structlog.testing.capture_logs():
        yield found


def handle(lanes: Partition, far_side: FarSide, **options: Any) -> float | str:
    """One job, one call: in how many seconds the next attempt is due, or why it is a dead letter, or "done"."""

    async def push(subject: AssigneeChange, ctx: Context) -> None:
        async with httpx.AsyncClient(timeout=0.2, headers={"Connection": "close"}) as client:
            (await client.post(far_side.url, json={"owner": subject.assignee_id})).raise_for_status()

    lanes.sequence(change("a", 1))
    process, _ = process_of(lanes, spec := spec_of(push, backoff=SOON, **options))
    Runner(process, spec, lanes.keys.partition).run()
    books = lanes.balanced("crm").handlers["crm"]
    if books.waiting:
        seconds, micros = lanes.client.time()
        due = lanes.client.zscore(lanes.keys.ready("crm"), "a")
        return float(due / 1000 - seconds - micros / 1e6)
    return "dead" if books.dead else "done"


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        (answer(429, "Retry-After: 60"), 50, 60),
        (answer(429), 3, 4),
        (answer(429, "Retry-After: soon"), 3, 4),
        (answer(429, "Retry-After: -5"), 3, 4),
        (answer(429, "Retry-After: 1e999"), 3, 4),
        (answer(503, "retry-after: 60"), 50, 60),
        (answer(503, f"Retry-After: {date_in(600)}", sent=540), 50, 60),  # by the far side's clock in a minute
        (answer(503, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), 3, 4),
        (answer(503, "Retry-After: 99999999999999999999"), 86_390, 86_400),
        (answer(500), 3, 4),
        (answer(401), 3, 4),
        (answer(302, "Location: /elsewhere"), 3, 4),
        (answer(409), 3, 4),
        ("nonsense\r\n\r\n", 3, 4),
        (CUT, 3, 4),
        (SILENT, 3, 4),
    ],
)
def test_what_may_go_better_is_tried_again(
    lanes: Partition, far_side: FarSide, said: str, least: float, most: float
) -> None:
    far_side.script = [said]
    due = handle(lanes, far_side)
    assert isinstance(due, float)
    assert least < due <= most


def test_nobody_at_home_is_tried_again(lanes: Partition, far_side: FarSide) -> None:
    far_side.close()
    assert isinstance(handle(lanes, far_side), float)


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_what_would_be_refused_again_is_a_dead_letter_at_once(lanes: Partition, far_side: FarSide, status: int) -> None:
    far_side.script = [answer(status)]
    assert handle(lanes, far_side) == "dead"


def test_the_wait_over_it_is_done(lanes: Partition, far_side: FarSide) -> None:
    far_side.script = [answer(429, "Retry-After: 60"), answer(204)]
    assert isinstance(handle(lanes, far_side), float)
    lanes.expire_claims()
    assert handle(lanes, far_side) == "done"
