"""The lines of a cluster's nodes: which partition's deliveries go where, and where instead when a node says so.

    a batch fails, or a node says MOVED ──▶ the layout is asked for, in a thread ──▶ what waits goes to the right lines

A delivery that was answered with MOVED or ASK was not stored: it goes on to the node that was named, within its own
patience. One that got no answer is not sent again: its sender does that, and it may be a duplicate then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import redis.exceptions

from ingress.line import Delivery, Line, Outcome, Redirected, pack
from worker.address import Address, Host
from worker.store.client import layout_of, unavailable_as_error
from worker.store.layout import slot_of

HOPS: Final = 5  # that a delivery is handed on, at most
_ASKING: Final = pack(b"ASKING")


class Nodes:
    """For one event loop. ``make`` makes a node's line, ``tell`` says what became of a delivery."""

    def __init__(
        self, address: Address, make: Callable[[Host], Line], tell: Callable[[Delivery, Outcome], None]
    ) -> None:
        self._layout = layout_of(address)
        self._make = make
        self._tell = tell
        self._by_host: dict[Host, Line] = {}
        self._of: list[Line] = []  # of each partition; the intake has this very list
        self._slots: list[int] = []
        self._asking: asyncio.Task[None] | None = None

    @property
    def lines(self) -> list[Line]:
        return list(self._by_host.values())

    async def open(self, inboxes: Sequence[str]) -> list[Line]:
        """The line of each partition, given its inbox; the list is kept up to date. Raises ``StoreUnavailable``."""
        slots = [slot_of(("XADD", inbox)) or 0 for inbox in inboxes]

        def ask() -> list[Host]:
            with unavailable_as_error():
                return [self._layout.host_of(slot) for slot in slots]

        self._of[:] = [self._line(host) for host in await asyncio.to_thread(ask)]
        self._slots = slots
        return self._of

    def redirect(self, line: Line, delivery: Delivery, error: Redirected) -> None:
        """Hand a delivery to the node that was named."""
        if delivery.hops >= HOPS:
            self._tell(delivery, Outcome.REFUSED)
            return
        host = Host(error.host or self._host_of(line).name, error.port)
        moved = isinstance(error, redis.exceptions.MovedError)
        there = self._line(host)
        command = delivery.command.removeprefix(_ASKING)
        if not moved:
            command = _ASKING + command
        there.put(delivery._replace(command=command, asking=not moved, hops=delivery.hops + 1), first=True)
        if moved:
            self._of[delivery.partition] = there
            self._layout.moved(error.slot_id, host)
            self._ask()

    def failed(self, line: Line) -> None:
        """Find out whether another node has that one's partitions now."""
        self._layout.doubt(self._host_of(line))
        self._ask()

    async def close(self) -> None:
        if self._asking is not None:
            await asyncio.wait([self._asking])

    def _ask(self) -> None:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._relocate())

    async def _relocate(self) -> None:
        try:
            await asyncio.to_thread(self._layout.refresh)
        except (redis.exceptions.RedisError, OSError):
            return  # the next delivery that fails asks again
        finally:
            self._asking = None
        for partition, slot in enumerate(self._slots):
            host = self._layout.known(slot)
            if host is not None:
                self._of[partition] = self._line(host)
        for line in self.lines:
            for delivery in line.take_waiting():
                there = line if delivery.asking else self._of[delivery.partition]
                there.put(delivery)

    def _line(self, host: Host) -> Line:
        found = self._by_host.get(host)
        if found is None:
            found = self._by_host[host] = self._make(host)
        return found

    def _host_of(self, line: Line) -> Host:
        return next(host for host, found in self._by_host.items() if found is line)
