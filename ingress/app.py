"""The HTTP side, as an RSGI application: routes, reads bodies within their limit, sends answers.

RSGI is granian's own interface (github.com/emmett-framework/granian, docs/spec/RSGI.md): one call to read a body,
one to answer. The path comes percent-decoded, bytes that are no UTF-8 as U+FFFD.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Final, Protocol

import structlog

from ingress.metrics import CONTENT_TYPE, Metrics
from ingress.monitor import Monitor
from ingress.receive import Answer, Receiver, refusal
from ingress.signature import HEADER
from worker.core.backpressure import Reason
from worker.settings import Settings

WEBHOOK: Final = "/webhooks/inbox"
WEBHOOK_OF_TEAM: Final = f"{WEBHOOK}/"
BODY_PATIENCE: Final = 15.0  # seconds for a body to arrive
DISCARD: Final = 8 * 1024 * 1024  # bytes of an oversized body read away, so that the sender gets to see its answer
_SIGNATURE: Final = HEADER.lower()

NOT_FOUND: Final = refusal(404, "not_found", f"Deliveries go to {WEBHOOK} or {WEBHOOK}/{{team_id}}.")
ONLY_POST: Final = refusal(405, "method_not_allowed", "Deliveries are sent with POST.", ("allow", "POST"))
ONLY_GET: Final = refusal(405, "method_not_allowed", "This is read with GET.", ("allow", "GET, HEAD"))
TOO_SLOW: Final = refusal(408, "body_timeout", "The body did not arrive in time.")
BROKEN: Final = refusal(400, "body_incomplete", "The connection ended before the body did.")
FAILED: Final = refusal(500, "internal", "This is a fault of the receiver; it has been logged.")

log = structlog.get_logger(__name__)


class Headers(Protocol):
    def get(self, key: str, default: None = None) -> str | None: ...


class Scope(Protocol):
    """What is used of RSGI's HTTP scope."""

    method: str
    path: str

    @property
    def headers(self) -> Headers: ...


class Exchange(Protocol):
    """What is used of RSGI's HTTP protocol: the body, whole or in parts, and the answer."""

    async def __call__(self) -> bytes: ...
    def __aiter__(self) -> Exchange: ...
    async def __anext__(self) -> bytes: ...
    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...
    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...


class TooLarge(Exception):
    """The body is over the limit."""


class App:
    """Answers every request with something, faults of our own included."""

    def __init__(self, settings: Settings, receiver: Receiver, monitor: Monitor, metrics: Metrics) -> None:
        self._receiver = receiver
        self._monitor = monitor
        self._metrics = metrics
        self._max_body = int(settings.max_body)
        self._too_large = refusal(413, "body_too_large", f"A body may have {self._max_body} bytes.")
        self._in_flight = 0
        self._loop = asyncio.get_running_loop()
        self.stopping = False
        metrics.in_flight.set_function(lambda: self._in_flight)
        metrics.backlog.set_function(lambda: monitor.load.events)
        metrics.backlog_bytes.set_function(lambda: monitor.load.size)
        metrics.memory.set_function(lambda: monitor.load.memory)
        metrics.memory_limit.set_function(lambda: monitor.bounds.memory)
        for reason in Reason:
            metrics.closed.labels(reason.value).set_function(partial(_closed, monitor, reason))
        metrics.ready.set_function(lambda: self._trouble is None)

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        self._in_flight += 1
        try:
            answer = await self._answer(scope, exchange)
        except Exception:
            log.exception("request_failed")
            answer = self._counted(FAILED)
        finally:
            self._in_flight -= 1
        try:
            if answer.body:
                exchange.response_bytes(answer.status, answer.headers, answer.body)
            else:
                exchange.response_empty(answer.status, answer.headers)
        except RuntimeError:  # RSGIProtocolClosed: the sender is gone, and knows from that to send again
            log.debug("sender_gone", status=answer.status)

    async def _answer(self, scope: Scope, exchange: Exchange) -> Answer:
        path = scope.path
        if path == WEBHOOK:
            team = None
        elif path.startswith(WEBHOOK_OF_TEAM):
            team = path[len(WEBHOOK_OF_TEAM) :]
        else:
            return self._operators(path, scope.method)
        if scope.method != "POST":
            return self._counted(ONLY_POST)
        headers = scope.headers
        try:
            body = await self._body(headers, exchange)
        except TooLarge:
            return self._counted(self._too_large)
        except TimeoutError:
            return self._counted(TOO_SLOW)
        except RuntimeError:  # RSGIProtocolClosed
            return self._counted(BROKEN)
        return await self._receiver.receive(team, headers.get(_SIGNATURE), body)

    async def _body(self, headers: Headers, exchange: Exchange) -> bytes:
        """The whole body. Raises ``TooLarge``, ``TimeoutError`` or ``RuntimeError``; holds no more than the limit."""
        length = headers.get("content-length")
        size = None if length is None else int(length)  # the server has checked it, and keeps the body to it
        if size is None and headers.get("transfer-encoding") is None:
            return b""
        if size is not None and size > self._max_body:
            if size > self._max_body + DISCARD or headers.get("expect") is not None:
                raise TooLarge
            size = None
        # asyncio.timeout() would do the same for three times the time, and this is every request's.
        task = asyncio.current_task()
        assert task is not None
        alarm = self._loop.call_later(BODY_PATIENCE, task.cancel)
        try:
            return await (self._body_in_parts(exchange) if size is None else exchange())
        except asyncio.CancelledError:
            task.uncancel()
            raise TimeoutError from None
        finally:
            alarm.cancel()

    async def _body_in_parts(self, exchange: Exchange) -> bytes:
        # A body that breaks off ends here as if it were whole: it is refused then, for its signature isn't right.
        parts: list[bytes] = []
        size = 0
        async for part in exchange:
            size += len(part)
            if size <= self._max_body:
                parts.append(part)
            elif size <= self._max_body + DISCARD:
                parts.clear()
            else:
                break
        if size > self._max_body:
            raise TooLarge
        return b"".join(parts)

    def _operators(self, path: str, method: str) -> Answer:
        if path not in ("/healthz", "/readyz", "/metrics"):
            return NOT_FOUND
        if method not in ("GET", "HEAD"):
            return ONLY_GET
        if path == "/healthz":
            return Answer(200, "alive", [("content-type", "text/plain")], b"ok\n")
        if path == "/metrics":
            return Answer(200, "metrics", [("content-type", CONTENT_TYPE)], self._metrics.render())
        trouble = self._trouble
        if trouble is None:
            body = json.dumps({"ready": True, "partitions": self._monitor.partitions}).encode()
            return Answer(200, "ready", [("content-type", "application/json")], body)
        return refusal(503, "not_ready", trouble, ("retry-after", "1"))

    @property
    def _trouble(self) -> str | None:
        return "the process is stopping" if self.stopping else self._monitor.trouble

    def _counted(self, answer: Answer) -> Answer:
        self._metrics.deliveries.labels(answer.code).inc()
        return answer


def _closed(monitor: Monitor, reason: Reason) -> float:
    return float(monitor.closed is reason)
