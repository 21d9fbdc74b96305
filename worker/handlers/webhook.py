"""Posts each change to a URL of yours, signed as Standard Webhooks says. On with ``HANDOFF_WEBHOOK_OUT_URL``.

The body is ``{"type": "prospect.reassigned", "timestamp": when it happened or null, "data": {...}}`` with type
``prospect.assigned``, ``.reassigned`` or ``.unassigned`` and, as data, ``AssigneeChange.as_dict()`` without the raw
event; with ``HANDOFF_WEBHOOK_OUT_INCLUDE=event`` that is in it too, with people's names, notes and bio. ``webhook-id``
and ``Idempotency-Key`` are the same for every attempt, ``webhook-timestamp`` is the attempt's own,
``webhook-signature`` has one signature for each secret, so that a receiver may go from one to the next at any time.

**Order.** By team, like any handler's: the next change of a team is posted when the last was accepted.

**Failure policy.** Any 2xx, as soon as it is there, is a success. Otherwise the default policy (core/failures.py), with
this of its own: there is one address for everything, so 404, 405 and 410 are about that address and not about a change.
They are an outage: the changes wait, and the circuit opens, which leaves a call a minute and no more to an endpoint
that has said 410 Gone; ``handoff status`` says so. If that was a mistake nothing is lost; if not, take the variable
out. A name that leads to no public address is an outage too. A redirect is never followed.

**Limits.** ``HANDOFF_WEBHOOK_OUT_TIMEOUT`` for an answer, of which at most 64 KiB are read, for at most 2 s.
Connections go to public addresses only, and to the very address that was checked (guarded.py).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final, Literal
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr, field_validator, model_validator

from worker import AssigneeChange, Context, handler
from worker.errors import ConfigurationError
from worker.guarded import PATIENCE, PublicOnly, bounded, public
from worker.handler_settings import CommaList, Duration, HandlerSettings, Pairs, SecretList
from worker.outgoing import IDEMPOTENCY_KEY, LIMITS, Refused, check, client

try:
    from standardwebhooks import Webhook
except ModuleNotFoundError:
    raise ConfigurationError(
        "HANDOFF_WEBHOOK_OUT_URL", "needs a library that is not installed", "pip install 'handoff[webhook]'"
    ) from None

PREFIX: Final = "whsec_"
KEY_BYTES: Final = range(24, 65)  # of a secret, by the standard
ENVIRONMENT: Final = "environment"
NOTHING_THERE: Final = frozenset({404, 405, 410})
FIELDS: Final = frozenset(
    {
        *("event_id", "seq", "team_id", "prospect", "previous_assignee_id", "previous_known", "assignee_id"),
        *("kind", "late", "stale", "absorbed", "occurred_at", "event"),
    }
)
OURS: Final = frozenset(
    {
        *("webhook-id", "webhook-timestamp", "webhook-signature", IDEMPOTENCY_KEY.lower(), "host", "connection"),
        *("content-type", "content-length", "content-encoding", "accept-encoding", "transfer-encoding", "expect", "te"),
        *("trailer", "upgrade"),
    }
)
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Options(HandlerSettings, env_prefix="HANDOFF_WEBHOOK_OUT_"):
    url: SecretStr = Field(description="Where each change is posted. Logs and errors name its host only.")
    secret: SecretList = Field(
        min_length=1,
        description="Signing secrets, `whsec_` and 24 to 64 bytes in base64, comma-separated. Each signs, so put the "
        'new one beside the old while the receiver changes. `echo "whsec_$(openssl rand -base64 32)"` makes one.',
    )
    include: Literal["change", "event"] = Field(
        "change", description="`change`: ids and the change. `event`: the raw event too, with names, notes and bio."
    )
    leave_out: CommaList = Field(
        default_factory=list,
        description="Fields of `data` that are not sent, comma-separated; with dots for inner ones, such as "
        "`event.data.prospect.bio`.",
    )
    headers: Pairs = Field(
        default_factory=dict, description="More headers, `name=value`, comma-separated; the values are kept secret."
    )
    timeout: Duration = Field(15.0, gt=0, description="How long the receiver may take to answer.")
    connect_timeout: Duration = Field(5.0, gt=0, description="How long to look up its name and to connect, of that.")
    allow_http: bool = Field(False, description="Let the URL begin with `http://`: whoever is on the way can read.")
    allow_private: bool = Field(
        False, description="Connect to addresses that are not public too: loopback, private networks, link-local, ..."
    )
    proxy: SecretStr | None = Field(
        None,
        description="Proxy to go through, `http://host:port`, or `environment`: as `HTTPS_PROXY` and its like say. It "
        "looks up the name and connects, so it has to keep private addresses out itself.",
    )

    @field_validator("secret")
    @classmethod
    def _secrets(cls, secrets: list[SecretStr]) -> list[SecretStr]:
        for secret in secrets:
            text = secret.get_secret_value()
            code = text.removeprefix(PREFIX).rstrip("=")
            try:
                key = base64.b64decode(code + "=" * (-len(code) % 4), validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if not text.startswith(PREFIX) or len(key) not in KEY_BYTES:
                raise ValueError(f"must be {PREFIX} and 24 to 64 bytes in base64")
        return secrets

    @field_validator("leave_out")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:  # one that is mistyped would be sent
            if name.partition(".")[0] not in FIELDS or ("." in name and not name.startswith("event.")):
                raise ValueError("names a field that there is not")
        return names

    @field_validator("headers")
    @classmethod
    def _free(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
                raise ValueError("has what can't be in a header")
            if name.lower() in OURS:
                raise ValueError("has a name that the handler itself sends")
        return headers

    @field_validator("proxy")
    @classmethod
    def _usable(cls, proxy: SecretStr | None) -> SecretStr | None:
        if proxy is not None and (text := proxy.get_secret_value()) != ENVIRONMENT:
            try:
                fine = httpx.URL(text).scheme in {"http", "https"} and httpx.URL(text).host
            except httpx.InvalidURL:
                fine = False
            if not fine:
                raise ValueError("must be http://host:port or environment")
        return proxy

    @model_validator(mode="after")
    def _address(self) -> Options:
        # Here for the other settings that it takes; what is raised names the variable itself.
        try:
            url = httpx.URL(self.url.get_secret_value().strip())
            literal = _literal(url.host)
        except (httpx.InvalidURL, ValueError):
            url, literal = httpx.URL(""), None
        problem = remedy = ""
        if url.scheme not in {"http", "https"} or not url.host:
            problem, remedy = "is no URL", "https://host/path"
        elif url.userinfo:
            problem, remedy = "has a user or password in it", "send it as a header: HANDOFF_WEBHOOK_OUT_HEADERS"
        elif url.scheme == "http" and not self.allow_http:
            problem, remedy = "is not https", "or set HANDOFF_WEBHOOK_OUT_ALLOW_HTTP=1"
        elif literal is not None and not self.allow_private and not public(literal):
            problem, remedy = "is no public address", "or set HANDOFF_WEBHOOK_OUT_ALLOW_PRIVATE=1"
        if problem:
            raise ConfigurationError("HANDOFF_WEBHOOK_OUT_URL", problem, remedy)
        return self


def _literal(host: str) -> Any:
    try:
        return ip_address(host)
    except ValueError:
        return None


options = Options.load()

URL: Final = httpx.URL(options.url.get_secret_value().strip())
WHERE: Final = httpx.Request("POST", URL.copy_with(raw_path=b"/", fragment=None))
"""What errors may say of it: in many a webhook's URL the path is the secret."""
SIGNERS: Final = tuple(Webhook(secret.get_secret_value()) for secret in options.secret)


class NothingThere(ConnectionError):
    """Whoever answered knows nothing of such an address, or of it no more. An outage by its name."""


def preview(change: AssigneeChange) -> object:
    """What a dry run shows: where to, and what but for the raw event."""
    document = envelope(change, "change")
    change_shown = document.pop("data")  # what is called data is withheld from logs, as a raw event's has to be
    return {"post": str(WHERE.url), **document, "change": change_shown}


@handler(name="webhook", timeout=options.timeout + PATIENCE + 5.0, preview=preview)
async def post_change(change: AssigneeChange, ctx: Context) -> None:
    """One post. Raises ``Refused``, ``NothingThere``, or what httpx does where no answer came."""
    body = encoded(envelope(change, options.include))
    request = api().build_request("POST", URL, content=body, headers=headers(ctx.idempotency_key, body, time.time()))
    try:
        async with asyncio.timeout(options.timeout):
            answer = await api().send(request, stream=True)
    except TimeoutError:
        raise TimeoutError(f"POST {WHERE.url}: no answer in {options.timeout:g} s") from None
    try:
        said = await bounded(answer)
    finally:
        await answer.aclose()
    judge(said)


def envelope(change: AssigneeChange, include: str) -> dict[str, Any]:
    data = change.as_dict()
    if include != "event":
        del data["event"]
    occurred = change.occurred_at
    for name in options.leave_out:
        _leave_out(data, name.split("."))
    timestamp = None if occurred is None else occurred.isoformat().replace("+00:00", "Z")
    return {"type": f"prospect.{change.kind.value}", "timestamp": timestamp, "data": data}


def _leave_out(data: Any, path: list[str]) -> None:
    *outer, last = path
    for name in outer:
        data = data.get(name) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data.pop(last, None)


def encoded(document: object) -> bytes:
    """In ASCII: there is no character that a receiver could read otherwise than it was signed."""
    return json.dumps(document, separators=(",", ":")).encode()


def headers(key: str, body: bytes, now: float) -> dict[str, str]:
    """``key`` is the idempotency key, ``now`` Unix seconds."""
    # A full stop ends the id in what is signed; the rest is what can't be in a header.
    message = quote(key, safe=":", errors="replace").replace(".", "%2E")
    at = datetime.fromtimestamp(int(now), UTC)
    signatures = " ".join(signer.sign(msg_id=message, timestamp=at, data=body.decode()) for signer in SIGNERS)
    return options.headers | {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        IDEMPOTENCY_KEY: message,
        "webhook-id": message,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signatures,
    }


def judge(answer: httpx.Response) -> None:
    answer.request = WHERE
    try:
        check(answer)
    except Refused as error:
        if answer.status_code in NOTHING_THERE and "retry-after" not in answer.headers:
            raise NothingThere(str(error)) from None
        raise


def api() -> httpx.AsyncClient:
    limits = httpx.Timeout(options.timeout, connect=options.connect_timeout)
    if _proxy() == ENVIRONMENT:
        return client("webhook", timeout=limits)
    return client("webhook", timeout=limits, transport=_transport)


def _transport() -> httpx.AsyncBaseTransport:
    if options.proxy is None and not options.allow_private:
        return PublicOnly()
    return httpx.AsyncHTTPTransport(verify=httpx.create_ssl_context(), limits=LIMITS, proxy=_proxy())


def _proxy() -> str | None:
    return None if options.proxy is None else options.proxy.get_secret_value()
