"""One connection's HTTP/1.1: what comes is parsed by llhttp (httptools), what is whole is answered, in order.

    head ──▶ body ──▶ ready ──▶ the application, one request at a time ──▶ answered ──▶ the next head, or the end
      │        └── too large, too slow ──▶ refused ──▶ answered, and the end
      └── not HTTP, too long ──▶ refused ──▶ answered, and the end; too late ──▶ the end

All of it happens in the event loop's thread: a request that waits for nothing is answered in the turn in which it came.
A server that hands each request from its own threads to the loop and back (granian's was measured) takes twice the
processor time, for most of a small request's cost is handing it over.

Whoever sends requests without waiting for the answers is not read from meanwhile.
Whoever is refused half way is sent a FIN, and what still comes is read away for ``LINGER`` seconds: closed at once, the
other side would see a reset, and might never see its answer (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

import structlog

from ingress.answers import Answer, refusal
from ingress.parsing import HEAD, IDLE, PATIENCE, Limits, Request, Requests

LINGER: Final = 2.0  # seconds

TOO_SLOW: Final = refusal(408, "body_timeout", "The body did not arrive in time.")
FAILED: Final = refusal(500, "internal", "This is a fault of the receiver; it has been logged.")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger(__name__)


class Application(Protocol):
    """Answers requests: at once, or by calling ``answer`` later, from the loop's thread, if it has returned None."""

    def handle(self, request: Request, answer: Callable[[Answer], None]) -> Answer | None: ...

    def broken(self, request: Request) -> None:
        """The connection ended before the request's body did."""


class House(Limits, Protocol):
    """What the connections have in common. ``stopping``: every answer is its connection's last."""

    application: Application
    date: bytes
    stopping: bool

    def joined(self, connection: Connection) -> None: ...
    def left(self, connection: Connection) -> None: ...


class Connection(Requests, asyncio.Protocol):
    """``trusted`` and ``crowding`` are seconds of the loop's clock, for whoever sweeps."""

    __slots__ = ("_busy", "_house", "_transport", "_writable", "crowding", "trusted")

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._house = house
        self._transport: asyncio.Transport | None = None
        self._busy = False  # the first that is ready is under way
        self._writable = True
        self.trusted = -1e9  # when its last delivery was accepted
        self.crowding: float | None = None  # since when it is in a crowd

    # --- of the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._house.joined(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._house.in_flight -= self._open
        self._open = 0
        request = self._request
        if request is not None and request.begun:
            self._house.application.broken(request)
        self._house.room.leave(self)
        self._request = None
        del self._ready[self._busy :]
        self._house.left(self)

    def eof_received(self) -> bool:
        """Whoever has said all that they had to say still listens for their answers."""
        self._deaf = True
        if self._ready:
            self._ready[-1].last = True
        return bool(self._ready)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if len(data) <= HEAD:
            self._feed(data)
        else:
            # The parser keeps an unfinished line of a head. It is given no more at a time than a head may have.
            view = memoryview(data)
            for at in range(0, len(data), HEAD):
                self._feed(view[at : at + HEAD])
        if self._ready:
            self._go_on()
            if (len(self._ready) > 1 or (self._ready and self._request)) and self._transport is not None:
                self._transport.pause_reading()

    # --- of its requests ----------------------------------------------------------------------------------------------

    def late(self) -> None:
        """Its deadline is over."""
        if self._request is not None and self._request.begun and not self._ready:
            self.give_up()
        else:
            self.cut()

    def give_up(self) -> None:
        """Wait no longer for the rest of a body."""
        self._refuse(TOO_SLOW)
        self._house.loop.call_soon(self._go_on)

    def _ask_for_body(self) -> None:
        if self._transport is not None:
            self._transport.write(_CONTINUE)

    def close_if_idle(self) -> None:
        """End a connection that is at no request, or has brought no more of one than a part of its head."""
        if not self._open and not self._ready and self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """End it now, whatever it is at."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _go_on(self) -> None:
        if self._ready and not self._busy and self._writable and self._transport is not None:
            self._next()

    def _next(self) -> None:
        self._busy = True
        request = self._ready[0]
        answer: Answer | None = request.refused
        if answer is None or request.begun:
            try:
                answer = self._house.application.handle(request, self.answer)
            except Exception:
                log.exception("request_failed")
                answer = FAILED
        if answer is not None:
            self.answer(answer)

    def answer(self, answer: Answer) -> None:
        """Answer the request that is under way."""
        request = self._ready.pop(0)
        self._busy = False
        house, transport = self._house, self._transport
        if transport is None or transport.is_closing():  # the sender is gone, and knows from that to send again
            return
        if request.begun:
            self._open -= 1
            house.in_flight -= 1
            if not self._open:
                self.began = 0.0
        now = house.loop.time()
        if answer.status == 202:
            self.trusted = now
        last = request.last or house.stopping
        transport.write(answer.rendered(house.date, close=last, bodiless=request.method == b"HEAD"))
        if last:
            self._end(now)
            return
        self.deadline = now + (PATIENCE if self._request is not None and self._request.begun else IDLE)
        if self._ready:
            house.loop.call_soon(self._go_on)  # others have their turn in between
        elif not transport.is_reading():
            transport.resume_reading()

    def _end(self, now: float) -> None:
        self._deaf = True
        house, transport = self._house, self._transport
        assert transport is not None
        house.in_flight -= self._open
        self._open = 0
        self._request = None
        self._ready.clear()
        house.room.leave(self)
        if not self._lingers:
            transport.close()
            return
        self.deadline = now + LINGER
        transport.write_eof()
        if not transport.is_reading():
            transport.resume_reading()
