"""Keeps strangers' connections from locking the provider out: when they crowd, those that bring nothing are cut.

    few connections ──── more than CROWDED of those that may be ────▶ crowded: every TICK, cut what is idle or slow
           ▲                                                             │
           └────────────────────── few enough again ◀────────────────────┘

The HTTP server serves so many connections at a time and leaves the others waiting in the kernel's queue, in order. One
that never sends a request, or sends it a byte at a time, costs its owner nothing and keeps its place until the head's
time is over, which is more than a minute for the sake of load balancers' idle connections. So while they crowd, whoever
has had ``GRACE`` seconds and is not at a request younger than that has to go, and the next one in the queue comes in.
Spared is whoever brought a delivery that was accepted within ``TRUSTED`` seconds: nobody can do that without a secret.

The server gives no way to close a connection. But its sockets are this process's: one that is shut down here ends
there as if the other side had hung up (shutdown(2) works on the connection, whichever descriptor names it).

All of this bounds the harm that connections do. It is no match for who opens thousands of them each second; limits by
address are the business of the TLS proxy in front.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from ingress.metrics import Metrics
from ingress.sparing import SparingLog

MOST: Final = 4096  # connections served at a time
OTHER_FILES: Final = 64  # descriptors for everything else: the state server, the broker, the loop, logs
CROWDED: Final = 0.75  # share of the connections that may be
TICK: Final = 0.5  # seconds between looks
GRACE: Final = 2.0  # seconds; the intake's patience, and a little
TRUSTED: Final = 60.0  # seconds, as long as load balancers keep an idle connection
REMEMBERED: Final = 8192  # connections that brought a delivery, twice


def allowed() -> int:
    """How many connections may be served, having raised the limit of open files to what that takes, if it can be.

    Out of descriptors, the server would try to accept without end, and nothing else could be opened either.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft - OTHER_FILES))


class Connections:
    """Which connections are at a request, and which have brought something. Peers are ``address:port``."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self.most = most
        self._metrics = metrics
        self._log = SparingLog()
        self._at_request: dict[str, float] = {}  # peer -> when its request's head was here
        self._trusted: dict[str, float] = {}  # peer -> when its last delivery was accepted
        self._trusted_before: dict[str, float] = {}
        self._since: dict[str, float] = {}  # peer -> when it was first seen in a crowd

    @property
    def in_flight(self) -> int:
        """Requests being answered now."""
        return len(self._at_request)

    def begin(self, peer: str) -> None:
        """A request's head has come from ``peer``."""
        self._at_request[peer] = time.monotonic()

    def end(self, peer: str, *, accepted: bool) -> None:
        """Its request has its answer; ``accepted``: it was a delivery, and is stored."""
        began = self._at_request.pop(peer, 0.0)
        if accepted:
            if len(self._trusted) >= REMEMBERED:
                self._trusted_before, self._trusted = self._trusted, {}
            self._trusted[peer] = began

    async def run(self, port: int) -> None:
        """Watch the connections to ``port`` for ever."""
        while True:
            await asyncio.sleep(TICK)
            if len(_descriptors()) < CROWDED * self.most:
                self._since.clear()
            else:
                # In a thread, or every answer would wait for a look at thousands of them.
                await asyncio.to_thread(self.relieve, port, time.monotonic())

    def relieve(self, port: int, now: float) -> int:
        """Cut whoever has had their time by ``now``; how many that were."""
        since: dict[str, float] = {}
        cut = 0
        for peer, connection in _connections(port):
            since[peer] = self._since.get(peer, now)
            if self._has_had_its_time(peer, since[peer], now):
                with suppress(OSError):  # it has gone by itself
                    connection.shutdown(socket.SHUT_RDWR)
                    cut += 1
        self._since = since
        if cut:
            self._metrics.cut.inc(cut)
            self._log.warning("connections_cut", "crowded", cut=cut, open=len(since), most=self.most)
        return cut

    def _has_had_its_time(self, peer: str, since: float, now: float) -> bool:
        if now - max(since, self._at_request.get(peer, 0.0)) < GRACE:
            return False
        trusted = self._trusted.get(peer) or self._trusted_before.get(peer)
        return trusted is None or now - trusted >= TRUSTED


def _connections(port: int) -> Iterator[tuple[str, socket.socket]]:
    """Every connection that was accepted on ``port``, by a descriptor of our own that is closed afterwards."""
    for descriptor in _descriptors():
        with suppress(OSError):  # closed meanwhile, no socket, or no longer connected
            own = os.dup(descriptor)
            try:
                connection = socket.socket(fileno=own)
            except OSError:
                os.close(own)
                continue
            with connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port:
                    host, at = connection.getpeername()[:2]
                    yield (f"[{host}]:{at}" if ":" in host else f"{host}:{at}"), connection


def _descriptors() -> list[int]:
    """What this process has open; none on systems that do not say, where nothing is cut then."""
    try:
        return [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 - thousands of numbers, and no paths
    except OSError:
        return []
