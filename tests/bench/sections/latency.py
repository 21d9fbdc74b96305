"""Idle latency: from the start of a POST to the first line of the handler, one delivery at a time."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final
from unittest import mock

from tests.bench import steps
from tests.bench.arena import Arena, arena_for
from tests.bench.contenders.handoff import start_worker
from tests.bench.sections import Section
from tests.bench.sections.door import open_door, signed
from tests.bench.stamps import STAMPS
from tests.bench.workload import Workload
from tests.processes import until
from worker.ops import samples
from worker.ops.samples import SampleDelivery

HANDLERS: Final = ("first", "second")  # of tests.bench.stamps
WARMING: Final = 40  # events that come first: the team's position is known after them, and the wait at its least
SPACING: Final = 0.03  # seconds between two posts
GAP_SPACING: Final = 0.08  # no wait reaches into the next one
GAP_WAIT: Final = 0.02  # seconds: what `auto` comes to where nothing is ever late

Row = tuple[str, float, str]


@dataclass(frozen=True)
class Calls:
    """``posted``: seq -> when; ``called``: handler, seq and when. Monotonic seconds, of one clock for all processes."""

    posted: dict[int, float]
    called: list[tuple[str, int, float]]

    def seconds(self, *handlers: str) -> list[float]:
        """From post to call, of each call of these handlers."""
        return [at - self.posted[seq] for handler, seq, at in self.called if handler in handlers]


def idle_latency(seed: int, posts: int) -> Section:
    """Of one team's events in order; and of events above a gap, from which the wait itself is taken."""
    in_order = _calls(samples.stream(seed, posts + WARMING, 1), SPACING)
    gaps = _calls(samples.stream(seed, posts // 3 + WARMING, 1, gaps=1.0), GAP_SPACING, gap_wait=f"{GAP_WAIT}s")
    held = [one - GAP_WAIT for one in gaps.seconds(*HANDLERS)]
    rows: list[Row] = []
    for handler in HANDLERS:
        rows += _percentiles(f"in order, {handler} handler", in_order.seconds(handler))
    every = in_order.seconds(*HANDLERS)
    rows += _percentiles("in order, every call", every)
    rows += _percentiles(f"above a gap, less the wait of {GAP_WAIT * 1000:g} ms", held)
    rows.append(("what holding costs beside the wait, p50", (median(held) - median(every)) * 1000, "ms"))
    return Section(
        "Idle latency, POST to first line",
        rows,
        f"{posts} posts of one team, {SPACING * 1000:g} ms apart, {len(HANDLERS)} handlers, worker of 2 processes",
    )


def latency_steps(seed: int, posts: int) -> Section:
    """Where that time goes, in the order of time."""
    with tempfile.TemporaryDirectory(prefix="handoff-steps-") as folder:
        file = Path(folder) / "steps"
        with mock.patch.dict(os.environ, {steps.FILE: str(file)}):
            calls = _calls(samples.stream(seed, posts + WARMING, 1), SPACING, traced=True)
        found = steps.table(file, sorted(calls.posted.values()), SPACING)
    for handler in HANDLERS:
        found.append((f"runner {handler}: first line", median(calls.seconds(handler))))
    rows = [(what, at * 1000, "ms") for what, at in sorted(found, key=lambda step: step[1])]
    return Section("Steps of a delivery", rows, "medians of the time since the POST, as each process wrote it down")


def _calls(deliveries: Sequence[SampleDelivery], spacing: float, *, traced: bool = False, **settings: str) -> Calls:
    """All but those of the first ``WARMING`` events."""
    workload = Workload(0, len(deliveries), tuple(deliveries))
    door, handlers = (
        ("tests.bench.traced_ingress", "tests.bench.traced_handlers")
        if traced
        else (
            "ingress",
            "tests.bench.stamps",
        )
    )
    with arena_for(workload) as arena, open_door(arena.url, module=door) as open_one:
        worker = start_worker(arena.url, handlers, **settings)
        try:
            arena.wait_for_blocked(worker, "brpop")
            host, _, port = open_one.address.partition(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _post(connection, deliveries[:WARMING], spacing)
                _wait_for(arena, WARMING)
                posted = _post(connection, deliveries[WARMING:], spacing)
            _wait_for(arena, len(deliveries))
            return Calls(posted, [stamp for stamp in _stamps(arena) if stamp[1] in posted])
        finally:
            worker.kill()


def _wait_for(arena: Arena, events: int) -> None:
    until(lambda: arena.client.llen(STAMPS) == events * len(HANDLERS), f"{events} events are handled")


def _post(connection: socket.socket, deliveries: Sequence[SampleDelivery], spacing: float) -> dict[int, float]:
    """Post them one after another; each number with its time."""
    posted: dict[int, float] = {}
    for delivery in deliveries:
        request = signed(delivery.body)
        posted[delivery.seq] = time.monotonic()
        connection.sendall(request)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 202"), answer[:100]
        time.sleep(max(0.0, posted[delivery.seq] + spacing - time.monotonic()))
    return posted


def _stamps(arena: Arena) -> Iterable[tuple[str, int, float]]:
    entries: Any = arena.client.lrange(STAMPS, 0, -1)
    for entry in entries:
        handler, seq, called = entry.split()
        yield handler.decode(), int(seq), float(called)


def _percentiles(what: str, seconds: Sequence[float]) -> list[Row]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return [(f"{what}, p{rank}", cuts[rank - 1] * 1000, "ms") for rank in (50, 90, 99)]
