"""The HTTP side, as an RSGI application: routes, has bodies read (ingress.bodies), sends answers.

RSGI is granian's own interface (github.com/emmett-framework/granian, docs/spec/RSGI.md): one call to read a body,
one to answer. The path comes percent-decoded, bytes that are no UTF-8 as U+FFFD.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Final, Protocol

import structlog

from ingress.bodies import Bodies, Headers, Incoming, TooLarge
from ingress.connections import Connections
from ingress.metrics import CONTENT_TYPE, Metrics
from ingress.monitor import Monitor
from ingress.receive import ACCEPTED, Answer, Receiver, refusal
from ingress.signature import HEADER
from ingress.workers import State
from worker.core.backpressure import Reason
from worker.settings import Settings

WEBHOOK: Final = "/webhooks/inbox"
WEBHOOK_OF_TEAM: Final = f"{WEBHOOK}/"
_SIGNATURE: Final = HEADER.lower()

NOT_FOUND: Final = refusal(404, "not_found", f"Deliveries go to {WEBHOOK} or {WEBHOOK}/{{team_id}}.")
ONLY_POST: Final = refusal(405, "method_not_allowed", "Deliveries are sent with POST.", ("allow", "POST"))
ONLY_GET: Final = refusal(405, "method_not_allowed", "This is read with GET.", ("allow", "GET, HEAD"))
TOO_SLOW: Final = refusal(408, "body_timeout", "The body did not arrive in time.")
BROKEN: Final = refusal(400, "body_incomplete", "The connection ended before the body did.")
CLOSE: Final = ("connection", "close")  # the sender is to open another one, which goes to another process
FAILED: Final = refusal(500, "internal", "This is a fault of the receiver; it has been logged.")

log = structlog.get_logger(__name__)


class Scope(Protocol):
    """What is used of RSGI's HTTP scope."""

    client: str
    method: str
    path: str

    @property
    def headers(self) -> Headers: ...


class Exchange(Incoming, Protocol):
    """What is used of RSGI's HTTP protocol: the body, and the answer."""

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...
    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...


class App:
    """Answers every request with something, faults of our own included."""

    def __init__(
        self, settings: Settings, receiver: Receiver, monitor: Monitor, metrics: Metrics, connections: Connections
    ) -> None:
        self._receiver = receiver
        self._connections = connections
        self._monitor = monitor
        self._metrics = metrics
        max_body = int(settings.max_body)
        self._bodies = Bodies(max_body)
        self._too_large = refusal(413, "body_too_large", f"A body may have {max_body} bytes.")
        self.stopping = False
        metrics.in_flight.set_function(lambda: connections.in_flight)
        metrics.backlog.set_function(lambda: monitor.load.events)
        metrics.backlog_bytes.set_function(lambda: monitor.load.size)
        metrics.memory.set_function(lambda: monitor.load.memory)
        metrics.memory_limit.set_function(lambda: monitor.bounds.memory)
        for reason in Reason:
            metrics.closed.labels(reason.value).set_function(partial(_closed, monitor, reason))
        for state in State:
            metrics.workers.labels(state.value).set_function(partial(_workers, monitor, state))
        metrics.ready.set_function(lambda: self._trouble is None)

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        peer = scope.client
        self._connections.begin(peer)
        answer = FAILED
        try:
            answer = await self._answer(scope, exchange)
        except Exception:
            log.exception("request_failed")
            self._counted(answer)
        finally:
            self._connections.end(peer, accepted=answer is ACCEPTED)
        headers = [*answer.headers, CLOSE] if self.stopping else answer.headers
        try:
            if answer.body:
                exchange.response_bytes(answer.status, headers, answer.body)
            else:
                exchange.response_empty(answer.status, headers)
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
            body = await self._bodies.read(headers, exchange)
        except TooLarge:
            return self._counted(self._too_large)
        except TimeoutError:
            return self._counted(TOO_SLOW)
        except RuntimeError:  # RSGIProtocolClosed
            return self._counted(BROKEN)
        return await self._receiver.receive(team, headers.get(_SIGNATURE), body)

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
            told = {"ready": True, "partitions": self._monitor.partitions, "workers": self._monitor.workers.counts}
            return Answer(200, "ready", [("content-type", "application/json")], json.dumps(told).encode())
        return refusal(503, "not_ready", trouble, ("retry-after", "1"))

    @property
    def _trouble(self) -> str | None:
        return "the process is stopping" if self.stopping else self._monitor.trouble

    def _counted(self, answer: Answer) -> Answer:
        self._metrics.deliveries.labels(answer.code).inc()
        return answer


def _workers(monitor: Monitor, state: State) -> float:
    counts = monitor.workers.counts
    return float("nan") if counts is None else counts[state]


def _closed(monitor: Monitor, reason: Reason) -> float:
    return float(monitor.closed is reason)
