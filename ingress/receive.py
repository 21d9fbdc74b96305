"""Decides what a delivery is answered. It knows the signature, the teams' secrets and the intake, but no HTTP server.

What is signed is accepted, readable or not: refused, it would be sent again for six hours and then be lost, so what
it is worth is for the sequencer to say (quarantine). Of the body only the team is looked at, to choose the partition.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from time import time
from typing import Final, NamedTuple

from ingress.intake import Intake
from ingress.line import Outcome
from ingress.metrics import Metrics
from ingress.monitor import Monitor
from ingress.signature import HEADER, Verdict, verify
from ingress.sparing import SparingLog
from worker.core.backpressure import Reason
from worker.core.envelope import MAX_ID, team_of
from worker.settings import Settings
from worker.store.keys import partition_of


class Answer(NamedTuple):
    """An HTTP answer, ready to send: made once, for each is always the same."""

    status: int
    code: str
    headers: list[tuple[str, str]]
    body: bytes


def refusal(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    """An answer whose body is ``{"error": {"code", "message"}}``."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return Answer(status, code, [("content-type", "application/json"), *headers], body)


def _later(code: str, message: str, seconds: int) -> Answer:
    return refusal(503, code, message, ("retry-after", str(seconds)))


ACCEPTED: Final = Answer(202, "accepted", [], b"")
UNAUTHORIZED: Final = {
    Verdict.MISSING: refusal(401, "signature_missing", f"The {HEADER} header is missing."),
    Verdict.MALFORMED: refusal(401, "signature_malformed", f"The {HEADER} header is not t=<unix seconds>,v1=<hex>."),
    Verdict.FORGED: refusal(401, "signature_invalid", "No secret known here makes this signature for this body."),
    Verdict.STALE: refusal(401, "signature_stale", "The signature is right but too old."),
    Verdict.FUTURE: refusal(401, "signature_future", "The signature is right but from the future: check the clocks."),
}
TEAM_SECRET_REQUIRED: Final = refusal(
    401, "team_secret_required", "This team has a secret of its own, which works at /webhooks/inbox/{team_id} only."
)
NO_SUCH_TEAM: Final = refusal(404, "not_found", f"The team in the path must have 1 to {MAX_ID} characters.")
STORE_UNAVAILABLE: Final = _later("store_unavailable", "The delivery could not be stored now.", 5)
OVERLOADED: Final = _later("overloaded", "Too many deliveries are being stored now.", 1)
FULL: Final = {
    Reason.EVENTS: _later(Reason.EVENTS, "Too many accepted deliveries wait to be handled.", 30),
    Reason.BYTES: _later(Reason.BYTES, "The accepted deliveries that wait to be handled are too large together.", 30),
    Reason.MEMORY: _later(Reason.MEMORY, "The state server is nearly full.", 30),
}
_OK: Final = Verdict.OK  # looking a member up takes as long as a call
_ANSWERS: Final = {
    Outcome.STORED: ACCEPTED,
    Outcome.REFUSED: STORE_UNAVAILABLE,
    Outcome.UNKNOWN: STORE_UNAVAILABLE,
    Outcome.OVERLOADED: OVERLOADED,
}


class Receiver:
    """Takes deliveries in. One for an event loop."""

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        monitor: Monitor,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        self._secrets = settings.secrets
        self._secrets_by_team = settings.secrets_by_team
        self._max_age = settings.signature_max_age
        self._intake = intake
        self._monitor = monitor
        self._metrics = metrics
        self._clock = clock
        self._log = SparingLog()

    async def receive(self, url_team: str | None, signature: str | None, body: bytes) -> Answer:
        """The answer to ``body``, posted to the path of ``url_team`` (None: the plain path). Never raises."""
        if url_team is None:
            secrets = self._secrets
        elif 0 < len(url_team) <= MAX_ID and "\ufffd" not in url_team:
            secrets = self._secrets_by_team.get(url_team, self._secrets)
        else:
            return NO_SUCH_TEAM
        verdict = verify(signature, body, secrets, now=self._clock(), max_age=self._max_age)
        if verdict is not _OK:
            return self._unauthorized(verdict.value, UNAUTHORIZED[verdict])
        team = team_of(body, url_team)
        if url_team is None and team in self._secrets_by_team:
            # Or whoever has the common secret could speak for a team that was given one of its own.
            return self._unauthorized("team_secret_required", TEAM_SECRET_REQUIRED)

        partitions = self._monitor.partitions
        if partitions is None or self._monitor.undurable is not None:
            return self._counted(STORE_UNAVAILABLE)
        closed = self._monitor.closed
        if closed is not None:
            return self._counted(FULL[closed])
        partition = zlib.crc32(body) % partitions if team is None else partition_of(team, partitions)
        answer = _ANSWERS[await self._intake.submit(partition, body, url_team)]
        return answer if answer is ACCEPTED else self._counted(answer)  # the intake counts what it has stored

    def _unauthorized(self, outcome: str, answer: Answer) -> Answer:
        self._metrics.deliveries.labels(outcome).inc()
        self._log.warning("delivery_refused", outcome)
        return answer

    def _counted(self, answer: Answer) -> Answer:
        self._metrics.deliveries.labels(answer.code).inc()
        return answer
