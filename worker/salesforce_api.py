"""Salesforce's REST API, as far as a handler needs it: OAuth, queries, up to 200 records at once, its daily limit.

    api = Api("https://example.my.salesforce.com", "62.0", client_credentials("id", "secret"))
    rows = await api.query("SELECT Id, Email FROM User WHERE Email IN ({})", ["ann@example.com"])
    results = await api.save("composite/sobjects", [{"attributes": {"type": "Lead"}, "id": "00Q...", ...}])

The access token is kept per process, asked for anew before it ends, and once in a request that is told that it ended
(401). It goes to the configured address only: no redirect is followed, and what the login says of another is not used.

What is raised, beside httpx's errors and ``Refused``, is an outage to the default policy: everything waits.

- ``LoginRefused``, ``Misconfigured``: a setting is wrong, here or there.
- ``LimitReached``: no API call is left. Nothing is asked of Salesforce meanwhile.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus
from weakref import WeakKeyDictionary

import httpx
from pydantic import SecretStr

from worker.errors import ConfigurationError
from worker.outgoing import Garbled, Refused, answer_of, check, client

MOST: Final = 200  # records in one request
TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0, pool=10.0)  # seconds; 200 records run through an org's triggers
LONGEST_QUERY: Final = 6000  # bytes, encoded: a URI may have 16,384 with all else, and proxies allow half of it
PAGES: Final = 100

TOKEN_LIFE: Final = 12 * 60.0  # seconds, where the login does not tell: a session lasts 15 minutes at least
TOKEN_MARGIN: Final = 60.0
ASSERTION_LIFE: Final = 120  # seconds; Salesforce takes up to 3 minutes

PAUSE_TOTAL: Final = 15 * 60.0  # seconds; the limit counts the last 24 hours, so it gives way bit by bit
PAUSE_CONCURRENT: Final = 30.0

_USAGE: Final = re.compile(r"(?<![\w-])api-usage=(\d+)/(\d+)")
_ESCAPES: Final = {
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}

Grant = Callable[[], dict[str, str]]
"""The form of a request for a token, made for each."""


class LoginRefused(ConnectionError):
    """No token for these credentials."""


class Misconfigured(ConnectionError):
    """A field or an object is not there, or may not be seen: no change of them would fare better."""


class LimitReached(ConnectionError):
    """No API calls are left. Read by the default policy like an answer 429 that says when to come again."""

    status_code = 429

    def __init__(self, text: str, after: float) -> None:
        self.headers = {"retry-after": f"{after:.3f}"}
        super().__init__(text)


class Trouble(NamedTuple):
    code: str
    message: str
    fields: tuple[str, ...] = ()


class Result(NamedTuple):
    """What became of a record. ``troubles`` is empty for a success."""

    created: bool
    troubles: tuple[Trouble, ...]


def client_credentials(client_id: str, secret: str) -> Grant:
    return lambda: {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}


def jwt_bearer(
    client_id: str, key: str, username: str, audience: str, *, setting: str, now: Callable[[], float] = time.time
) -> Grant:
    """``key`` is an RSA private key in PEM. Raises ``ConfigurationError`` naming ``setting``."""
    try:
        import jwt
    except ImportError:
        raise ConfigurationError(setting, "needs PyJWT", "pip install handoff[salesforce]") from None
    key = key.replace("\\n", "\n")  # as one line of an environment file

    def grant() -> dict[str, str]:
        claims = {"iss": client_id, "sub": username, "aud": audience, "exp": int(now()) + ASSERTION_LIFE}
        assertion = jwt.encode(claims, key, algorithm="RS256")
        return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}

    try:
        grant()
    except Exception:  # noqa: BLE001 - its text may show the key
        raise ConfigurationError(setting, "is not an RSA private key in PEM without a password") from None
    return grant


def grant_of(
    url: str,
    client_id: str,
    *,
    secret: SecretStr | None,
    key: SecretStr | None,
    key_file: Path | None,
    username: str | None,
    audience: str | None,
) -> Grant:
    """The way to log in that the settings have what it needs for. Raises ``ConfigurationError``."""
    if secret is not None:
        return client_credentials(client_id, secret.get_secret_value())
    if key is not None:
        setting, text = "HANDOFF_SALESFORCE_PRIVATE_KEY", key.get_secret_value()
    elif key_file is not None:
        setting = "HANDOFF_SALESFORCE_PRIVATE_KEY_FILE"
        try:
            text = key_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(setting, f"can't be read: {type(error).__name__}") from None
    else:
        raise ConfigurationError(
            "HANDOFF_SALESFORCE_CLIENT_SECRET", "is not set", "or log in with HANDOFF_SALESFORCE_PRIVATE_KEY_FILE"
        )
    if username is None:
        raise ConfigurationError("HANDOFF_SALESFORCE_USERNAME", "is not set", "the user whom the private key logs in")
    default = f"https://{'test' if '.sandbox.' in url else 'login'}.salesforce.com"
    return jwt_bearer(client_id, text, username, audience or default, setting=setting)


class Api:
    """One org, of one process. ``share``: of its daily API calls, at which to stop. Raises as the module says."""

    def __init__(
        self, url: str, version: str, grant: Grant, *, share: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._base = f"/services/data/v{version}/"
        self._grant = grant
        self._share = share
        self._clock = clock
        self._token = ""
        self._token_ends = 0.0
        self._full_until = 0.0
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def query(self, soql: str, values: Sequence[str]) -> list[dict[str, Any]]:
        """All rows for ``soql``, whose ``{}`` is where the values go, in as many requests as they need."""
        rows: list[dict[str, Any]] = []
        for part in _parts(values, LONGEST_QUERY - len(quote_plus(soql))):
            text = soql.replace("{}", ",".join(part))
            answer = await self._ask(self._base + "query", params={"q": text})
            for _ in range(PAGES):
                rows += _rows(answer)
                if answer.get("done") is not False:
                    break
                following = answer.get("nextRecordsUrl")
                if not isinstance(following, str) or not following.startswith("/services/data/"):
                    raise _garbled("a page of records without the next one's address")
                answer = await self._ask(following)
        return rows

    async def save(self, path: str, records: Sequence[dict[str, Any]]) -> list[Result]:
        """Write up to 200 ``records``, each for itself; the results are in their order."""
        # Without the header Salesforce lets an org's assignment rules choose another owner.
        headers = {"Sforce-Auto-Assign": "FALSE"}
        body = {"allOrNone": False, "records": list(records)}
        response = await self._send("PATCH", self._base + path, json=body, headers=headers)
        results = [_result(each) for each in answer_of(response, list)]
        if len(results) != len(records):
            raise _garbled(f"{len(results)} results for {len(records)} records")
        return results

    async def _ask(self, path: str, **options: Any) -> dict[str, Any]:
        return answer_of(await self._send("GET", path, **options), dict)

    async def _send(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        for renewed in (False, True):
            if (left := self._full_until - self._clock()) > 0:
                raise LimitReached("Salesforce has no API calls left for today", left)
            token = await self._access()
            authorized = {"Authorization": f"Bearer {token}"} | (headers or {})
            response = await _http().request(method, self._url + path, headers=authorized, **options)
            self._count(response)
            if response.status_code != 401 or renewed:
                break
            if self._token == token:  # else another call has a new one already
                self._token = ""
        return self._checked(response)

    def _checked(self, response: httpx.Response) -> httpx.Response:
        try:
            return check(response)
        except Refused as refused:
            codes = _codes(response)
            if "REQUEST_LIMIT_EXCEEDED" in codes:
                # The other limit with this code is of long requests at one time.
                if "concurrent" in response.text.lower():
                    raise LimitReached(str(refused), PAUSE_CONCURRENT) from None
                self._full_until = self._clock() + PAUSE_TOTAL
                raise LimitReached(str(refused), PAUSE_TOTAL) from None
            # Names, which are the settings'. What a value can spoil, as MALFORMED_QUERY, is one change's fault.
            if codes & {"INVALID_FIELD", "INVALID_TYPE", "NOT_FOUND"}:
                raise Misconfigured(f"{refused} (HANDOFF_SALESFORCE_OBJECT, _EXTERNAL_ID_FIELD, _FIELDS)") from None
            raise

    def _count(self, response: httpx.Response) -> None:
        found = _USAGE.search(response.headers.get("sforce-limit-info", ""))
        if found is not None:
            used, limit = int(found[1]), int(found[2])
            full = limit > 0 and used >= limit * self._share
            self._full_until = self._clock() + PAUSE_TOTAL if full else 0.0

    async def _access(self) -> str:
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if not self._token or self._clock() >= self._token_ends:
                await self._login()
            return self._token

    async def _login(self) -> None:
        response = await _http().post(f"{self._url}/services/oauth2/token", data=self._grant())
        try:
            answer = answer_of(response, dict)
        except Refused as refused:
            if response.status_code in {400, 401, 403}:
                raise LoginRefused(f"{refused} (HANDOFF_SALESFORCE_URL and the credentials)") from None
            raise
        token, lasts = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token:
            raise _garbled("a login without an access token")
        lasts = float(lasts) - TOKEN_MARGIN if isinstance(lasts, int) else TOKEN_LIFE
        self._token, self._token_ends = token, self._clock() + max(1.0, lasts)


def literal(text: str) -> str:
    """``text`` as a string of SOQL, which nothing in it can end."""
    return "'" + "".join(_ESCAPES.get(each, each) for each in text) + "'"


def _parts(values: Sequence[str], room: int) -> Iterator[list[str]]:
    """Literals of ``values``, as many together as fit; one goes alone where it does not."""
    part: list[str] = []
    used = 0
    for each in map(literal, values):
        size = len(quote_plus(each)) + 3  # and a comma
        if part and used + size > room:
            yield part
            part, used = [], 0
        part.append(each)
        used += size
    if part:
        yield part


def _http() -> httpx.AsyncClient:
    return client("salesforce", timeout=TIMEOUT)


def _codes(response: httpx.Response) -> set[str]:
    try:
        found = response.json()
    except (ValueError, RecursionError):
        return set()
    found = found if isinstance(found, list) else [found]
    return {str(each.get("errorCode")) for each in found if isinstance(each, dict)}


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    rows = answer.get("records")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _garbled("an answer to a query without records")
    return rows


def _result(each: object) -> Result:
    if not isinstance(each, dict) or not isinstance(each.get("success"), bool):
        raise _garbled("a result that says of no success")
    if each["success"]:
        return Result(each.get("created") is True, ())
    errors = each.get("errors")
    troubles = tuple(_trouble(error) for error in errors if isinstance(error, dict)) if isinstance(errors, list) else ()
    return Result(False, troubles or (Trouble("UNKNOWN_EXCEPTION", "no error is given"),))


def _trouble(error: dict[str, Any]) -> Trouble:
    fields = error.get("fields")
    names = tuple(str(name) for name in fields) if isinstance(fields, list) else ()
    return Trouble(str(error.get("statusCode", "UNKNOWN_EXCEPTION")), str(error.get("message", "")), names)


def _garbled(what: str) -> Garbled:
    return Garbled(f"Salesforce answered with {what}")
