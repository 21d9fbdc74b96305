"""HubSpot's API as worker/handlers/hubspot.py uses it: requests within HubSpot's limits, owners by their e-mail, and
what its answers to batches name.

Limits are what the headers of answers say (X-HubSpot-RateLimit-...). The short one is waited for; the daily one ends at
midnight of the account's time zone, which no answer tells, so once it is used up nothing is sent for an hour at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import httpx

from worker import Retry
from worker.outgoing import Refused, answer_of, client, trimmed

OWNER_KEPT: Final = 3600.0  # seconds; a stranger is asked for again much sooner, for somebody may be adding them now
STRANGER_KEPT: Final = 10.0
DAY_LOOK: Final = 3600.0
INTERVAL: Final = 10.0  # what HubSpot's short limit is about, where an answer does not say
SETUP_CODES: Final = {"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"}


class NotSetUp(Exception):
    """What HubSpot lacks, or does not let be written: the same for every change. Judged like a 403."""

    status_code = 403
    headers: Mapping[str, str] = {}


class Quota:
    """What HubSpot says is left of its limits: nothing is sent that would only be refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = self._day = -float("inf")

    async def wait(self) -> None:
        """Until the next request may go. Raises ``Retry`` where that is not in this call's time."""
        if (rest := self._day - self._clock()) > 0:
            raise Retry("HubSpot: the daily limit is used up", after=rest)
        if (rest := self._pause - self._clock()) > 0:
            await asyncio.sleep(rest)

    def note(self, response: httpx.Response) -> None:
        """Raises ``Retry`` for a 429 that does not say when."""
        headers, refused = response.headers, response.status_code == 429
        interval = _number(headers.get("X-HubSpot-RateLimit-Interval-Milliseconds"), INTERVAL * 1000) / 1000
        daily = _number(headers.get("X-HubSpot-RateLimit-Daily-Remaining"), 1) <= 0
        if daily or (refused and '"DAILY"' in response.text):
            self._day = self._clock() + DAY_LOOK
        elif _number(headers.get("X-HubSpot-RateLimit-Remaining"), 1) <= 0:
            self._pause = self._clock() + interval
        if refused and "Retry-After" not in headers:
            rest = self._day - self._clock()
            text = trimmed(response.text)
            raise Retry(f"HubSpot: 429 {text}", after=rest if rest > 0 else interval) from Refused(
                text, request=response.request, response=response
            )


def _number(text: str | None, default: float) -> float:
    try:
        return default if text is None else float(text)
    except ValueError:
        return default


class HubSpot:
    """An account. ``token`` is a private app's."""

    def __init__(self, url: str, token: str) -> None:
        self.quota = Quota()
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    async def send(self, method: str, path: str, *, about_setup: bool = False, **request: Any) -> dict[str, Any]:
        """One request; the JSON that it was answered with. ``request`` is httpx's.

        Raises ``NotSetUp`` for a 400 about properties, or any where it is not about a single change (``about_setup``);
        ``Retry`` where a limit is reached; what ``answer_of`` raises.
        """
        api = client(f"hubspot {self._url}", base_url=self._url)
        await self.quota.wait()
        response = await api.request(method, path, **request | {"headers": self._headers | request.get("headers", {})})
        self.quota.note(response)
        if response.status_code == 400 and (about_setup or codes_of(_document(response)) & SETUP_CODES):
            raise NotSetUp(f"HubSpot: 400 {trimmed(response.text)}")
        return answer_of(response, dict)


class Owners:
    """Ids of owners by their e-mail, remembered."""

    def __init__(self, account: HubSpot, clock: Callable[[], float] = time.monotonic) -> None:
        self._account = account
        self._clock = clock
        self._known: dict[str, tuple[float, str | None]] = {}

    async def find(self, emails: Iterable[str]) -> dict[str, str | Exception | None]:
        """By e-mail the owner's id, None where there is none, or why that could not be had."""
        found: dict[str, str | Exception | None] = {}
        wanted = []
        for email in set(emails):
            if self.remembers(email):
                found[email] = self._known[_folded(email)][1]
            else:
                wanted.append(email)
        few = asyncio.Semaphore(4)
        answers = await asyncio.gather(*(self._ask(email, few) for email in wanted), return_exceptions=True)
        for email, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, Exception):
                    raise answer
                found[email] = answer
                continue
            kept = STRANGER_KEPT if answer is None else OWNER_KEPT
            self._known[_folded(email)] = (self._clock() + kept, answer)
            found[email] = answer
        return found

    def remembers(self, email: str) -> bool:
        until, _ = self._known.get(_folded(email), (-float("inf"), None))
        return until > self._clock()

    def forget(self, email: str) -> None:
        self._known.pop(_folded(email), None)

    async def _ask(self, email: str, few: asyncio.Semaphore) -> str | None:
        async with few:
            asked = {"email": email, "limit": 100, "archived": "false"}
            answer = await self._account.send("GET", "/crm/v3/owners", params=asked)
        for owner in objects(answer, "results"):
            if _folded(str(owner.get("email"))) == _folded(email) and not owner.get("archived"):
                return str(owner["id"])
        return None


def _folded(email: str) -> str:
    return email.strip().casefold()


def _document(response: httpx.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def codes_of(error: object) -> set[str]:
    """What an error gives as the reasons."""
    return {str(each.get("code")) for each in objects(error, "errors")}


def objects(found: object, name: str) -> Iterator[dict[str, Any]]:
    """The objects in a list of an object, as far as it has them."""
    listed = found.get(name) if isinstance(found, dict) else None
    return (each for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict))


def named(error: dict[str, Any]) -> set[str]:
    """Ids and traces of what an error of a 207 is about."""
    context = error.get("context")
    values = context.values() if isinstance(context, dict) else ()
    return {str(each) for value in values for each in (value if isinstance(value, list) else [value])}


def said(error: dict[str, Any]) -> str:
    """Its category and message, trimmed."""
    return trimmed(f"{error.get('category')}: {error.get('message')}")
