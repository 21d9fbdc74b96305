"""Makes requests of one connection's bytes: llhttp (httptools) parses, and what it does not bound is bounded here.

    head ──▶ body ──▶ ready           head or body ──▶ refused: ready too, as the connection's last

The parser keeps an unfinished line of a head, and reads on for ever in what surrounds chunks; so it is given no more at
a time than a head may have, and whatever brings neither an end of the head nor a part of the body is counted.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ingress.answers import Answer, refusal
from ingress.bodies import DISCARD, WHOLE, Room

HEAD: Final = 16 * 1024  # bytes that a request's head may have; anybody may send one, so thousands must find room
FIELDS: Final = 100  # header lines in it
PIPELINED: Final = 128  # requests of one connection that wait for the answers to those before them
IDLE: Final = 75.0  # seconds for a request's head to arrive; more than the 60 s that load balancers keep theirs
PATIENCE: Final = 15.0  # seconds for a body to arrive

NOT_HTTP: Final = refusal(400, "bad_request", "This is no HTTP/1.1 request.")
HEAD_TOO_LARGE: Final = refusal(431, "head_too_large", f"The head may have {HEAD} bytes and {FIELDS} lines.")


class Request:
    """One request. ``refused``: what it is answered whatever it asks, for it did not arrive as a request should."""

    __slots__ = ("begun", "body", "last", "method", "refused", "signature", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.signature: bytes | None = None
        self.body: bytes | bytearray = b""
        self.begun = False  # its head is here
        self.last = False  # no other one comes after it
        self.refused: Answer | None = None


class Limits(Protocol):
    """What the connections have in common, as far as reading goes."""

    signature_header: bytes  # the name of the header that ``Request.signature`` is, in small letters
    loop: asyncio.AbstractEventLoop
    room: Room
    max_body: int
    too_large: Answer
    in_flight: int


class Requests:
    """Those of one connection. ``began`` and ``deadline`` are seconds of the loop's clock, for whoever sweeps."""

    __slots__ = (
        "_bodied",
        "_deaf",
        "_fed",
        "_fields",
        "_head",
        "_length",
        "_limits",
        "_lingers",
        "_open",
        "_parser",
        "_ready",
        "_request",
        "_strange",
        "_unparsed",
        "began",
        "deadline",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = HttpRequestParser(self)
        self._request: Request | None = None  # the one that is arriving
        self._ready: list[Request] = []  # whole, in order
        self._open = 0  # requests whose head is here, and which have no answer yet
        self._head = self._fields = 0  # bytes and lines of the head so far
        self._strange = 0  # bytes that brought neither an end of the head nor a part of the body
        self._fed = False  # the bytes that are being parsed brought a part of the body
        self._length: int | None = None  # of the body, where its head says it
        self._bodied = False  # its head says that there is one
        self._unparsed = 0  # bytes of a body that are still to come, and not for the parser
        self._deaf = False  # nothing that still comes is a request
        self._lingers = False  # something may still come
        self.began = 0.0  # when the head of the newest request was here that has no answer yet; 0: there is none
        self.deadline = limits.loop.time() + IDLE

    def give_up(self) -> None:
        """Wait no longer for the rest of a body."""
        raise NotImplementedError

    def _ask_for_body(self) -> None:
        """Tell a sender who asks first to go on."""
        raise NotImplementedError

    def _feed(self, data: bytes | memoryview) -> None:
        if self._deaf or not data:
            return
        if self._unparsed:
            own, data = data[: self._unparsed], data[self._unparsed :]
            self._unparsed -= len(own)
            self.on_body(bytes(own))
            if not self._unparsed and self._request is not None:
                self._ready.append(self._request)
                self._request = None
                self._limits.room.leave(self)
            self._feed(data)
            return
        arriving = self._request
        self._fed = False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:  # another protocol was asked for, and is not to be had: HTTP goes on
            if self._bodied and self._ready and not self._deaf:
                # The parser takes a body for that protocol's. Given back to it, it would be the next request.
                self._request = self._ready.pop()
                self._unparsed = self._length or 0
                if not self._unparsed:
                    self._refuse(NOT_HTTP)  # in chunks
            self._feed(data[upgrade.args[0] :])
            return
        except HttpParserError:
            self._refuse(NOT_HTTP)
            return
        if arriving is not None and arriving is self._request and not (arriving.begun and self._fed):
            # A head, the frame of a chunk or a trailer that does not end.
            self._strange += len(data)
            if self._strange > HEAD:
                self._refuse(NOT_HTTP if arriving.begun else HEAD_TOO_LARGE)

    # --- called by the parser -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if len(self._ready) >= PIPELINED:
            self._deaf = self._lingers = True
            self._ready[-1].last = True
        if not self._deaf:
            self._request = Request()
            self._head = self._fields = self._strange = 0
            self._length = None
            self._bodied = False

    def on_url(self, part: bytes) -> None:
        if self._request is not None:
            self._request.target += part
            self._head += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if request is None or request.begun:  # a trailer says nothing that counts
            return
        self._fields += 1
        self._head += len(name) + len(value) + 4
        name = name.lower()
        if name == self._limits.signature_header:
            if request.signature is None:
                request.signature = value
        elif name == b"content-length":
            self._length = int(value)
            self._bodied = self._length > 0
        elif name == b"transfer-encoding":
            self._bodied = True
        elif name == b"expect" and value.lower() == b"100-continue":
            request.last = True  # for now: on_headers_complete sends the sender on

    def on_headers_complete(self) -> None:
        request = self._request
        if request is None:
            return
        if self._fields > FIELDS or self._head > HEAD:
            self._refuse(HEAD_TOO_LARGE)
            return
        limits = self._limits
        request.begun = True
        self._open += 1
        limits.in_flight += 1
        self.began = limits.loop.time()
        self.deadline = self.began + PATIENCE
        asks, request.last = request.last, False
        length = self._length
        if length is not None and length > limits.max_body and (asks or length > limits.max_body + DISCARD):
            self._refuse(limits.too_large)
        elif asks and not self._ready:
            self._ask_for_body()

    def on_body(self, part: bytes) -> None:
        self._fed = True
        request = self._request
        if request is None:
            return
        limits = self._limits
        length = self._length
        if length is not None and length <= WHOLE and length <= limits.max_body:
            if not request.body:
                request.body = part
                return
        elif not self._has_room(request, len(part)):
            return
        if not isinstance(request.body, bytearray):
            request.body = bytearray(request.body)
        request.body += part

    def _has_room(self, request: Request, more: int) -> bool:
        """Count a part of a large body, or of one that does not say how large it is; whether it is to be kept."""
        limits = self._limits
        size = limits.room.size_of(self) + more
        if size > limits.max_body + DISCARD:
            self._refuse(limits.too_large)
            return False
        kept = size <= limits.max_body
        if not kept:
            request.body = b""
            request.refused = limits.too_large
        limits.room.count(self, more, kept=kept)
        return kept and self._request is request

    def on_message_complete(self) -> None:
        request = self._request
        if request is None:
            return
        self._request = None
        self._limits.room.leave(self)
        if not self._parser.should_keep_alive():
            request.last = True
            if self._parser.get_http_version() == "0.9":
                request.refused = NOT_HTTP
        request.method = self._parser.get_method()
        self._ready.append(request)

    def _refuse(self, answer: Answer) -> None:
        if self._deaf:
            return
        request = self._request or Request()
        self._request = None
        self._limits.room.leave(self)
        request.body = b""
        request.refused = answer
        request.last = self._deaf = self._lingers = True
        if request.begun:
            request.method = self._parser.get_method()
        self._ready.append(request)
