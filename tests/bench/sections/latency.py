"""Idle latency: from the start of a POST to the first line of the handler, one delivery at a time."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from statistics import quantiles
from typing import Any, Final

from tests.bench.arena import Arena, arena_for
from tests.bench.contenders.handoff import start_worker
from tests.bench.sections import Section
from tests.bench.sections.door import open_door, signed
from tests.bench.stamps import STAMPS
from tests.bench.workload import Workload
from tests.processes import until
from worker.ops import samples
from worker.ops.samples import SampleDelivery

HANDLERS: Final = 2  # of tests.bench.stamps
WARMING: Final = 40  # events that come first: the team's position is known after them, and the wait at its least
SPACING: Final = 0.03  # seconds between two posts
GAP_SPACING: Final = 0.08  # no wait reaches into the next one
GAP_WAIT: Final = 0.02  # seconds: what `auto` comes to where nothing is ever late


def idle_latency(seed: int, posts: int) -> Section:
    """Of one team's events in order; and of events above a gap, from which the wait itself is taken."""
    in_order = _latencies(samples.stream(seed, posts + WARMING, 1), SPACING)
    held = _latencies(samples.stream(seed, posts // 3 + WARMING, 1, gaps=1.0), GAP_SPACING, gap_wait=f"{GAP_WAIT}s")
    return Section(
        "Idle latency, POST to handler",
        [
            *_percentiles("in order", in_order),
            *_percentiles(f"above a gap, less the wait of {GAP_WAIT * 1000:g} ms", [one - GAP_WAIT for one in held]),
        ],
        f"{posts} posts, {SPACING * 1000:g} ms apart, {HANDLERS} handlers, each call counted",
    )


def _latencies(deliveries: Sequence[SampleDelivery], spacing: float, **settings: str) -> list[float]:
    """Seconds from post to call, for each call but those of the first ``WARMING`` events."""
    workload = Workload(0, len(deliveries), tuple(deliveries))
    with arena_for(workload) as arena, open_door(arena.url) as door:
        worker = start_worker(arena.url, "tests.bench.stamps", **settings)
        try:
            arena.wait_for_blocked(worker, "brpop")
            host, _, port = door.address.partition(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                posted = _post(connection, deliveries[:WARMING], spacing)
                until(lambda: arena.client.llen(STAMPS) == WARMING * HANDLERS, "the first events are handled")
                posted |= _post(connection, deliveries[WARMING:], spacing)
            until(lambda: arena.client.llen(STAMPS) == len(deliveries) * HANDLERS, "all events are handled")
            warm = {delivery.seq for delivery in deliveries[:WARMING]}
            return [called - posted[seq] for seq, called in _stamps(arena) if seq not in warm]
        finally:
            worker.kill()


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


def _stamps(arena: Arena) -> list[tuple[int, float]]:
    entries: Any = arena.client.lrange(STAMPS, 0, -1)
    pairs = (entry.split() for entry in entries)
    return [(int(seq), float(called)) for seq, called in pairs]


def _percentiles(what: str, seconds: Sequence[float]) -> list[tuple[str, float, str]]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return [(f"{what}, p{rank}", cuts[rank - 1] * 1000, "ms") for rank in (50, 90, 99)]
