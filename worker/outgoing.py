"""HTTP calls of handlers: one pool per process, time limits, verified TLS, and errors that say what the far side said.

    async def push(change: AssigneeChange, ctx: Context) -> None:
        api = client("crm", base_url=options.url, headers={"Authorization": f"Bearer {token}"})
        check(await api.put("/owners", json={...}, headers={IDEMPOTENCY_KEY: ctx.idempotency_key}))

What ``check`` raises is judged by the default policy (core/failures.py): 429 and 503 wait as long as the far side says,
other 5xx and cut connections are tried again, a request that can't succeed becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import re
from importlib.metadata import version
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import httpx

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
USER_AGENT: Final = f"handoff/{version('handoff')}"
TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0, pool=10.0)
"""Seconds, for each read and write; the handler's own ``timeout`` bounds the whole call."""
LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)

LONGEST: Final = 300  # characters of an answer in an error
_SECRET: Final = re.compile(
    r"(?i)(bearer\s+|token[\"'=: ]+|secret[\"'=: ]+|password[\"'=: ]+|key[\"'=: ]+)[^\s\"',;&}]{6,}"
)

# A connection belongs to one process and one event loop, and goes with it.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, httpx.AsyncClient]] = WeakKeyDictionary()


class Refused(httpx.HTTPStatusError):
    """The far side answered with an error. The text has its status, its own code if it gave one, and what it said,
    trimmed; no header of ours, and no query."""


def client(name: str, **options: Any) -> httpx.AsyncClient:
    """The client of that name of this process and its event loop, made with ``options`` (httpx's) when first asked for.

    Redirects are not followed: a request with a secret goes where it was meant to go, or nowhere. ``transport`` may be
    a function that makes one.
    """
    known = _clients.setdefault(asyncio.get_running_loop(), {})
    found = known.get(name)
    if found is None or found.is_closed:
        headers = {"User-Agent": USER_AGENT} | dict(options.pop("headers", {}))
        made: dict[str, Any] = {"timeout": TIMEOUT, "limits": LIMITS, "follow_redirects": False} | options
        if callable(made.get("transport")):
            made["transport"] = made["transport"]()
        found = known[name] = httpx.AsyncClient(headers=headers, **made)
    return found


def check(response: httpx.Response) -> httpx.Response:
    """The response, if it is a success. Raises ``Refused``. The body has to have been read, as it is by default."""
    if response.is_success:
        return response
    text = f"{_where(response.request)}: {response.status_code} {trimmed(response.text)}".strip()
    raise Refused(text, request=response.request, response=response)


def trimmed(text: str) -> str:
    """What a far side said, in one line, no longer than errors may be, and without what looks like a secret."""
    return _SECRET.sub(r"\1***", " ".join(text.split()))[:LONGEST]


def _where(request: httpx.Request) -> str:
    return f"{request.method} {request.url.copy_with(query=None, userinfo=None, fragment=None)}"


class Garbled(httpx.RemoteProtocolError):
    """The far side answered with success, but not with what it should: it, or something in between, is not well."""


Shape = TypeVar("Shape", dict[str, Any], list[Any])


def answer_of(response: httpx.Response, shape: type[Shape]) -> Shape:
    """The JSON of a success, an object (``dict``) or a list. Raises ``Refused``, or ``Garbled`` for anything else."""
    check(response)
    try:
        found = response.json()
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, shape):
        return found
    what = f"{_where(response.request)}: {response.status_code} without a JSON {shape.__name__}"
    raise Garbled(what, request=response.request)
