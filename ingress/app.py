"""The application: which request is for whom, and the pages for operators."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import unquote_to_bytes

from httptools import HttpParserInvalidURLError, parse_url

from ingress.answers import Answer, refusal
from ingress.connections import Connections
from ingress.metrics import CONTENT_TYPE, Metrics
from ingress.monitor import Monitor
from ingress.parsing import NOT_HTTP, Request
from ingress.receive import Receiver
from ingress.workers import State
from worker.core.backpressure import Reason

WEBHOOK: Final = "/webhooks/inbox"
WEBHOOK_OF_TEAM: Final = f"{WEBHOOK}/"
_PLAIN: Final = WEBHOOK.encode()

NOT_FOUND: Final = refusal(404, "not_found", f"Deliveries go to {WEBHOOK} or {WEBHOOK}/{{team_id}}.")
ONLY_POST: Final = refusal(405, "method_not_allowed", "Deliveries are sent with POST.", ("allow", "POST"))
ONLY_GET: Final = refusal(405, "method_not_allowed", "This is read with GET.", ("allow", "GET, HEAD"))
BROKEN: Final = "body_incomplete"
ALIVE: Final = Answer(200, "alive", [("content-type", "text/plain")], b"ok\n")


class App:
    """Answers every request with something."""

    def __init__(self, receiver: Receiver, monitor: Monitor, metrics: Metrics, connections: Connections) -> None:
        self._receiver = receiver
        self._connections = connections
        self._monitor = monitor
        self._metrics = metrics
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

    def handle(self, request: Request, answer: Callable[[Answer], None]) -> Answer | None:
        """The answer, or None: ``answer`` is called with it later."""
        team: str | None
        if request.target == _PLAIN:
            team = None
        else:
            path = path_of(request.target)
            if path is None:
                return NOT_HTTP
            if path == WEBHOOK:
                team = None
            elif path.startswith(WEBHOOK_OF_TEAM):
                team = path[len(WEBHOOK_OF_TEAM) :]
            else:
                return request.refused or self._operators(path, request.method)
        if request.method != b"POST":
            return self._counted(ONLY_POST)
        if request.refused is not None:
            return self._counted(request.refused)
        signature = request.signature
        return self._receiver.receive(
            team, None if signature is None else signature.decode("latin-1"), bytes(request.body), answer
        )

    def broken(self, request: Request) -> None:
        if request.target.startswith(_PLAIN):
            self._metrics.deliveries.labels(BROKEN).inc()

    def _operators(self, path: str, method: bytes) -> Answer:
        if path not in ("/healthz", "/readyz", "/metrics"):
            return NOT_FOUND
        if method not in (b"GET", b"HEAD"):
            return ONLY_GET
        if path == "/healthz":
            return ALIVE
        if path == "/metrics":
            return Answer(200, "metrics", [("content-type", CONTENT_TYPE)], self._metrics.render())
        trouble = self._trouble
        if trouble is None:
            told = {"ready": True, "partitions": self._monitor.partitions, "workers": self._monitor.workers.counts}
            return Answer(200, "ready", [("content-type", "application/json")], json.dumps(told).encode())
        return refusal(503, "not_ready", trouble, ("retry-after", "1"))

    @property
    def _trouble(self) -> str | None:
        return "the process is stopping" if self._connections.stopping else self._monitor.trouble

    def _counted(self, answer: Answer) -> Answer:
        self._metrics.deliveries.labels(answer.code).inc()
        return answer


def path_of(target: bytes) -> str | None:
    """The path of a request's target, percent-decoded, bytes that are no UTF-8 as U+FFFD; None where there is none."""
    if not target.startswith(b"/"):
        if target == b"*" or b"://" not in target:
            return target.decode("utf-8", "replace")  # OPTIONS *, and what CONNECT names
        try:
            target = parse_url(target).path or b"/"
        except HttpParserInvalidURLError:
            return None
    path = target.partition(b"?")[0].partition(b"#")[0]
    return unquote_to_bytes(path).decode("utf-8", "replace")


def _workers(monitor: Monitor, state: State) -> float:
    counts = monitor.workers.counts
    return float("nan") if counts is None else counts[state]


def _closed(monitor: Monitor, reason: Reason) -> float:
    return float(monitor.closed is reason)
