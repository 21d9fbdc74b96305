"""The connections that are open: how many, how long each may take, and what gives way when thousands of them crowd.

    few enough ──more than CROWDED of those that may be ────▶ crowded: every TICK, cut what is idle or slow
           ▲                                                             │
           └────────────────────── few enough again ◀────────────────────┘

So many are served at a time, and the others wait in the kernel's queue, in order. One that never sends a request, or
sends it a byte at a time, costs its owner nothing and keeps its place until the head's time is over, which is more than
a minute for the sake of load balancers' idle connections. So while they crowd, whoever has had ``GRACE`` seconds and is
not at a request younger than that has to go, and the next one in the queue comes in. Spared is whoever brought a
delivery that was accepted within ``TRUSTED`` seconds: nobody can do that without a secret.

All of this bounds the harm that connections do. It is no match for who opens thousands of them each second; limits by
address are the business of the TLS proxy in front.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress
from email.utils import formatdate
from typing import Final

from ingress.answers import Answer
from ingress.bodies import Room
from ingress.http1 import Application, Connection
from ingress.metrics import Metrics
from ingress.signature import HEADER
from ingress.sparing import SparingLog

MOST: Final = 4096  # connections served at a time
OTHER_FILES: Final = 64  # descriptors for everything else: the state server, the broker, the loop, logs
CROWDED: Final = 0.75  # share of the connections that may be
TICK: Final = 0.5  # seconds between looks
GRACE: Final = 2.0  # seconds; the intake's patience, and a little
TRUSTED: Final = 60.0  # seconds, as long as load balancers keep an idle connection
AT_ONCE: Final = 64  # connections accepted in one turn of the loop


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
    """Accepts connections and keeps them. One for an event loop; ``application`` is set before the first is accepted.

    ``max_body`` is bytes, and ``too_large`` what a larger body is answered.
    """

    application: Application

    def __init__(self, most: int, max_body: int, too_large: Answer, metrics: Metrics) -> None:
        self.loop = asyncio.get_running_loop()
        self.most = most
        self.signature_header = HEADER.lower().encode()
        self.max_body = max_body
        self.too_large = too_large
        self.room = Room()
        self.stopping = False  # every answer is a connection's last
        self.in_flight = 0  # requests whose head is here, and which are not answered yet
        self.date = _date()
        self._metrics = metrics
        self._log = SparingLog()
        self._listener: socket.socket | None = None
        self._accepting = False
        self._count = 0  # accepted, and not ended; some of them are being made
        self._making: set[asyncio.Task[None]] = set()
        self._all: dict[Connection, None] = {}  # in the order in which they came
        self._empty: asyncio.Future[None] | None = None

    # --- coming and going ---------------------------------------------------------------------------------------------

    def accept_from(self, listener: socket.socket) -> None:
        """Accept what comes to ``listener``, which does not block and stays its owner's."""
        self._listener = listener
        self._resume()

    def stop_accepting(self) -> None:
        """Leave connections that come from now on to others who have this socket; those that have come are served."""
        if self._listener is not None:
            self._accept(self.most)
            self._pause()
            self._listener = None

    def close_idle(self) -> None:
        """End the connections that are at no request."""
        for connection in list(self._all):
            connection.close_if_idle()

    def cut(self) -> None:
        """End every connection."""
        for connection in list(self._all):
            connection.cut()

    async def ended(self, seconds: float) -> bool:
        """Wait until all have ended, for at most so long; whether they have."""
        if self._count:
            self._empty = self.loop.create_future()
            await asyncio.wait([self._empty], timeout=seconds)
        return not self._count

    def joined(self, connection: Connection) -> None:
        self._all[connection] = None

    def left(self, connection: Connection) -> None:
        self._all.pop(connection, None)
        self._gone()

    def _gone(self) -> None:
        self._count -= 1
        if self._empty is not None and not self._count and not self._empty.done():
            self._empty.set_result(None)
        self._resume()

    def _resume(self) -> None:
        if self._listener is not None and not self._accepting and self._count < self.most:
            self._accepting = True
            self.loop.add_reader(self._listener, self._accept, AT_ONCE)

    def _pause(self) -> None:
        if self._listener is not None and self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._listener)

    def _accept(self, most: int) -> None:
        listener = self._listener
        if listener is None:
            return
        for _ in range(most):
            if self._count >= self.most:
                self._pause()
                return
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor, no memory: the next look tries again
                self._pause()
                self._log.warning("not_accepted", type(error).__name__, error=error.strerror)
                return
            self._count += 1
            making = self.loop.create_task(self._make(accepted))
            self._making.add(making)
            making.add_done_callback(self._making.discard)

    async def _make(self, accepted: socket.socket) -> None:
        try:
            accepted.setblocking(False)
            await self.loop.connect_accepted_socket(lambda: Connection(self), accepted)
        except OSError:  # the other side has gone already
            accepted.close()
            self._gone()

    # --- looking after them -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after them for ever."""
        while True:
            await asyncio.sleep(TICK)
            self.look()

    def look(self) -> None:
        """Tell those that have taken too long, and cut whoever has had their time in a crowd."""
        self.date = _date()
        self._resume()
        now = self.loop.time()
        crowded = self._count >= CROWDED * self.most
        cut = 0
        for connection in list(self._all):
            if now >= connection.deadline:
                connection.late()
            elif not crowded:
                connection.crowding = None
            elif self._has_had_its_time(connection, now):
                connection.cut()
                cut += 1
        if cut:
            self._metrics.cut.inc(cut)
            self._log.warning("connections_cut", "crowded", cut=cut, open=self._count, most=self.most)

    def _has_had_its_time(self, connection: Connection, now: float) -> bool:
        since = connection.crowding
        if since is None:
            since = connection.crowding = now
        return now - max(since, connection.began) >= GRACE and now - connection.trusted >= TRUSTED


def _date() -> bytes:
    return formatdate(usegmt=True).encode()
