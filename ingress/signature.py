"""Whether a delivery was signed with one of our secrets, and when: a pure function of header, body and clock.

The header is ``X-Inbox-Signature: t=<Unix seconds>,v1=<hex>``, the hex being ``HMAC_SHA256(secret, "{t}.{body}")`` over
the raw bytes (PROVIDER.md 1). Fields may come in any order, with blanks around them, and ``v1`` may be repeated: one
match is enough, as in the provider's own SDK. The HMAC is judged before the time, so that a retry that was
signed once and arrives late (``stale``) is not mistaken for an attack (``forged``).
"""

from __future__ import annotations

import functools
import hmac
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

HEADER: Final = "X-Inbox-Signature"
FUTURE_SKEW: Final = 300  # seconds that the provider's clock may be ahead of ours; its SDK's tolerance
MAX_HEADER: Final = 4096  # characters; two signatures take 150
MAX_TIMESTAMP: Final = 15  # digits; today's has 10
_HEX: Final = frozenset("0123456789abcdef")
_USUAL: Final = re.compile(r"t=([0-9]{1,15}),v1=([0-9a-f]{64})").fullmatch  # as the provider writes it; saves 2 us


class Verdict(StrEnum):
    """What a signature is worth. Only ``OK`` lets a delivery in."""

    OK = "ok"
    MISSING = "missing"  # no header, or an empty one
    MALFORMED = "malformed"  # no t of digits, or no v1 of 64 lowercase hex digits
    FORGED = "forged"  # no secret of ours makes any of the signatures
    STALE = "stale"  # ours, but signed longer ago than we accept
    FUTURE = "future"  # ours, but signed by a clock that is too far ahead


def sign(body: bytes, secret: bytes, timestamp: int) -> str:
    """The header's value for ``body``, signed at ``timestamp`` (Unix seconds)."""
    return f"t={timestamp},v1={_digest(secret, str(timestamp), body)}"


def verify(
    header: str | None,
    body: bytes,
    secrets: Iterable[bytes],
    *,
    now: float,
    max_age: float,
    future_skew: float = FUTURE_SKEW,
) -> Verdict:
    """Judge ``header`` against the raw ``body``. ``now``, ``max_age`` and ``future_skew`` are seconds. Never raises."""
    if not header:
        return Verdict.MISSING
    timestamp, candidates = _fields(header)
    if timestamp is None or not candidates:
        return Verdict.MALFORMED
    for secret in secrets:
        if _matches(_digest(secret, timestamp, body), candidates):
            break
    else:
        return Verdict.FORGED
    age = now - int(timestamp)
    if age > max_age:
        return Verdict.STALE
    return Verdict.FUTURE if -age > future_skew else Verdict.OK


def _fields(header: str) -> tuple[str | None, list[str]]:
    """The first ``t`` if it is a number, and every ``v1`` that could be an HMAC."""
    if usual := _USUAL(header):
        return usual[1], [usual[2]]
    if len(header) > MAX_HEADER:
        return None, []
    timestamp: str | None = None
    candidates: list[str] = []
    for field in header.split(","):
        name, _, value = field.strip().partition("=")
        if name == "t" and timestamp is None:
            timestamp = value
        elif name == "v1" and len(value) == 64 and _HEX.issuperset(value):
            candidates.append(value)
    # isdigit() alone lets in the digits of every script, which int() reads but no signer writes.
    if timestamp is None or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= MAX_TIMESTAMP):
        return None, candidates
    return timestamp, candidates


def _matches(expected: str, candidates: list[str]) -> bool:
    found = False
    for candidate in candidates:
        found |= hmac.compare_digest(expected, candidate)
    return found


def _digest(secret: bytes, timestamp: str, body: bytes) -> str:
    keyed = _keyed(secret).copy()
    keyed.update(timestamp.encode() + b".")
    keyed.update(body)
    return keyed.hexdigest()


@functools.lru_cache(maxsize=1024)
def _keyed(secret: bytes) -> hmac.HMAC:
    """An HMAC that has only been given its key. A copy of it takes half the time that keying a new one does."""
    return hmac.new(secret, digestmod="sha256")
