"""Group commit: requests that arrive together are stored together, and each learns what became of its own XADD.

    submit ──▶ the line of the partition's server ──▶ batches (ingress/line.py) ──▶ each future: STORED or why not

There is one line, and one server, but for a cluster: there each node has a line of its own (ingress/nodes.py), so that
one that is away delays the deliveries of its own partitions and no others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from ingress.bells import Bells
from ingress.line import PATIENCE, Delivery, Line, Outcome, Redirected
from ingress.metrics import Metrics
from ingress.nodes import Nodes
from ingress.sparing import SparingLog
from worker.address import Address, Host, Kind
from worker.doorbell import Carried
from worker.store.client import pool_async
from worker.store.keys import PartitionKeys

WAITING_DELIVERIES: Final = 8192  # over this many not yet answered, the next are refused at once
WAITING_BYTES: Final = 64 * 1024 * 1024
_STORED: Final = Outcome.STORED  # looking a member up takes as long as a call
CONNECTIONS: Final = 2  # to one server: one at work, and one to replace it


class Intake:
    """Stores deliveries at ``address``, for one event loop.

    ``ring`` is called with the partitions whose bell was not out yet, and is not ``carried`` with the deliveries.
    ``flush``: a 202 waits for the server's disk, and no bell is carried: without the right to it the whole transaction
    would be refused.
    """

    def __init__(
        self,
        address: Address,
        metrics: Metrics,
        ring: Callable[[Iterable[int]], None],
        *,
        flush: bool = False,
        carried: Carried | None = None,
    ) -> None:
        self._address = address
        self._flush = flush
        self._metrics = metrics
        self.ring = ring
        self._log = SparingLog()
        self._loop = asyncio.get_running_loop()
        self._nodes = Nodes(address, self._line, self.tell) if address.kind is Kind.CLUSTER else None
        self._only = self._line(None) if self._nodes is None else None
        self._lines: list[Line] = []  # of each partition
        self._inboxes: tuple[bytes, ...] = ()
        self._carried = None if flush else carried
        self.bells = Bells()
        self.stored = 0  # since the start
        self.stored_bytes = 0
        self.unanswered = 0  # submitted, and not known yet what becomes of them
        self.unanswered_bytes = 0

    async def open(self, prefix: str, partitions: int) -> None:
        """Say what the partitions are; needed before the first ``submit``. Raises ``StoreUnavailable``."""
        keys = [PartitionKeys(prefix, partition) for partition in range(partitions)]
        if self._nodes is not None:
            self._lines = await self._nodes.open([key.inbox for key in keys])
        elif self._only is not None:
            self._lines = [self._only] * partitions
        self._inboxes = tuple(b"%b$1\r\n*\r\n$1\r\nb\r\n" % _packed(key.inbox) for key in keys)
        self.bells = Bells(keys, self._carried)

    def submit(self, partition: int, body: bytes, url_team: str | None) -> asyncio.Future[Outcome]:
        """Have ``body`` appended to the partition's inbox. The future never fails."""
        outcome: asyncio.Future[Outcome] = self._loop.create_future()
        size = len(body)
        if self.unanswered >= WAITING_DELIVERIES or (
            self.unanswered_bytes and self.unanswered_bytes + size > WAITING_BYTES
        ):
            outcome.set_result(Outcome.OVERLOADED)
            return outcome
        team = b"" if url_team is None else _team(url_team)
        command = b"%b%b$%d\r\n%b\r\n%b" % (_FIELDS[bool(team)], self._inboxes[partition], size, body, team)
        self.unanswered += 1
        self.unanswered_bytes += size
        self._lines[partition].put(Delivery(outcome, partition, command, size, self._loop.time() + PATIENCE))
        return outcome

    async def drain(self) -> None:
        """Wait until everything submitted has its outcome."""
        while self.unanswered:
            await asyncio.gather(*(line.drain() for line in self._known_lines()))
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._nodes is not None:
            await self._nodes.close()
        for line in self._known_lines():
            await line.close()

    def tell(self, delivery: Delivery, outcome: Outcome) -> None:
        """What became of a delivery."""
        self.unanswered -= 1
        self.unanswered_bytes -= delivery.size
        if outcome is _STORED:
            self.stored += 1
            self.stored_bytes += delivery.size
        if not delivery.outcome.done():
            delivery.outcome.set_result(outcome)

    def redirect(self, line: Line, delivery: Delivery, error: Redirected) -> None:
        """A node says that another one has the delivery's partition."""
        if self._nodes is None:  # a node of a cluster that was taken for a server
            self.tell(delivery, Outcome.REFUSED)
        else:
            self._nodes.redirect(line, delivery, error)

    def failed(self, line: Line) -> None:
        """A line's server is gone, or does not serve its partitions now."""
        if self._nodes is not None:
            self._nodes.failed(line)

    def _line(self, host: Host | None) -> Line:
        pool = pool_async(self._address, connections=CONNECTIONS, host=host)
        return Line(pool, self, self._metrics, self._log, flush=self._flush, clustered=host is not None)

    def _known_lines(self) -> list[Line]:
        return [self._only] if self._only is not None else self._nodes.lines if self._nodes is not None else []


# XADD inbox * b body [t team], as hiredis would pack it: here all but the body's length is known beforehand.
_FIELDS: Final = (b"*5\r\n$4\r\nXADD\r\n", b"*7\r\n$4\r\nXADD\r\n")  # without and with a team


def _packed(word: str) -> bytes:
    encoded = word.encode("utf-8", "surrogatepass")
    return b"$%d\r\n%b\r\n" % (len(encoded), encoded)


def _team(url_team: str) -> bytes:
    return b"$1\r\nt\r\n" + _packed(url_team)
