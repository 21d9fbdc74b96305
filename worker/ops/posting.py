"""Signs events and posts them to the ingress, as the provider would: many at a time, again when it says "later".

``handoff send`` and ``handoff dev`` go through here. A post is signed afresh at each attempt, so its signature never
grows old while it waits.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

from ingress.signature import HEADER, sign
from worker.errors import ConfigurationError, HandoffError
from worker.settings import Settings

PATH: Final = "/webhooks/inbox"
ATTEMPTS: Final = 5
MAX_PAUSE: Final = 30.0
"""Seconds; a ``Retry-After`` beyond it is cut, since somebody is watching."""
TIMEOUT: Final = 15.0  # seconds for one answer

NO_ANSWER: Final = "no_answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one post: the last HTTP ``status`` (None: no answer) and the ``code`` of its error body."""

    status: int | None
    code: str | None
    attempts: int

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Target:
    """Where to post and what to sign with."""

    url: str
    secret: bytes


def target(settings: Settings, *, url: str | None = None, team: str | None = None, secret: str | None = None) -> Target:
    """The target that settings and options make.

    ``url`` without a path gets the webhook's; the default is the address in ``HANDOFF_BIND``. ``secret`` comes before
    the team's own and the webhook's. Raises ``ConfigurationError`` when there is nothing to sign with.
    """
    keys = [secret.encode()] if secret else [*settings.secrets_by_team.get(team or "", ()), *settings.secrets]
    if not keys:
        raise ConfigurationError(
            "HANDOFF_WEBHOOK_SECRET",
            "is not set, so nothing can be signed",
            "set it to the ingress's, or name the variable that has it with --secret-env",
        )
    address = url or local_url(settings)
    if not urlsplit(address).path.strip("/"):
        address = address.rstrip("/") + PATH
    if team is not None:
        address = f"{address.rstrip('/')}/{quote(team, safe='')}"
    return Target(address, keys[0])


def local_url(settings: Settings) -> str:
    """The ingress's own address, with a host that one can connect to where it listens on all of them."""
    host, port = settings.host_and_port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def post_all(
    bodies: Sequence[bytes],
    to: Target,
    *,
    concurrency: int = 32,
    on_answer: Callable[[Answer], None] = lambda _: None,
) -> list[Answer]:
    """Post every body, ``concurrency`` at a time, started in their order; answers come back in that order too.

    Raises ``HandoffError`` when nothing listens at the address; once something has answered, a lost connection is a
    reason to try again, like a 503.
    """
    poster = _Poster(to)
    answers: list[Answer | None] = [None] * len(bodies)
    waiting = iter(enumerate(bodies))

    async def work() -> None:
        # A client each: a pool looks at all of its connections for every request, which with 32 is most of the time.
        # No proxy and no ~/.netrc: signed events go where they are told to and nowhere else.
        async with httpx.AsyncClient(verify=tls, timeout=TIMEOUT, trust_env=False) as client:
            for place, body in waiting:
                answers[place] = answer = await poster.post(client, body)
                on_answer(answer)

    tls = ssl.create_default_context()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(bodies))):
                group.create_task(work())
    except* HandoffError as failures:
        raise failures.exceptions[0] from None
    return [answer for answer in answers if answer is not None]


class _Poster:
    def __init__(self, to: Target) -> None:
        self._to = to
        self._answered = False

    async def post(self, client: httpx.AsyncClient, body: bytes) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            answer, pause = await self._try(client, body, attempt)
            if pause is None or attempt == ATTEMPTS:
                return answer
            await asyncio.sleep(pause)

    async def _try(self, client: httpx.AsyncClient, body: bytes, attempt: int) -> tuple[Answer, float | None]:
        """One attempt: the answer, and for how many seconds to wait before another (None: it is final)."""
        backoff = min(MAX_PAUSE, 0.25 * 2**attempt)
        headers = {"content-type": "application/json", HEADER: sign(body, self._to.secret, int(time.time()))}
        try:
            response = await client.post(self._to.url, content=body, headers=headers)
        except httpx.ConnectError as error:
            if not self._answered:
                raise HandoffError(
                    f"nothing answers at {self._to.url}: start `handoff dev`, or name another place with --url"
                ) from error
            return Answer(None, NO_ANSWER, attempt), backoff
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise HandoffError(f"--url: {error}") from None
        except httpx.TransportError:
            return Answer(None, NO_ANSWER, attempt), backoff
        self._answered = True
        answer = Answer(response.status_code, _error_code(response), attempt)
        return answer, _retry_after(
            response, backoff
        ) if response.status_code == httpx.codes.SERVICE_UNAVAILABLE else None


def _error_code(response: httpx.Response) -> str | None:
    """The ``code`` of the ingress's error body, ``{"error": {"code", "message"}}``; None where there is none."""
    if response.is_success:
        return None
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None


def _retry_after(response: httpx.Response, otherwise: float) -> float:
    value = response.headers.get("retry-after", "")
    return min(MAX_PAUSE, float(value)) if value.isdigit() else otherwise


@dataclass(frozen=True, slots=True)
class Summary:
    """The answers counted: ``by_answer`` maps (status, error code) to how often, the most frequent first."""

    sent: int
    accepted: int
    retries: int
    by_answer: list[tuple[tuple[int | None, str | None], int]]


def summary(answers: Sequence[Answer]) -> Summary:
    counts = Counter((answer.status, answer.code) for answer in answers)
    return Summary(
        sent=len(answers),
        accepted=sum(answer.accepted for answer in answers),
        retries=sum(answer.attempts - 1 for answer in answers),
        by_answer=counts.most_common(),
    )
