"""A second opinion, written from PROVIDER.md and RFC 2104 without a look at the code: what a delivery says, and whether
its signature is right. Slow and plain; it shares no library with what it judges but the hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

BLOCK = 64  # bytes of SHA-256's block


def hmac_sha256(key: bytes, message: bytes) -> str:
    """RFC 2104, as it stands there."""
    key = (hashlib.sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


def accepts(header: str | None, body: bytes, secrets: Iterable[bytes], now: float, max_age: float, skew: float) -> bool:
    """Whether ``header`` signs ``body``: of the fields between commas, the first ``t`` and any ``v1``."""
    if header is None or len(header) > 4096:
        return False
    pairs = [field.strip().split("=", 1) for field in header.split(",")]
    fields = [(pair[0], pair[1] if len(pair) == 2 else "") for pair in pairs]
    times = [value for name, value in fields if name == "t"]
    if not times or not re.fullmatch(r"[0-9]{1,15}", times[0], re.ASCII):
        return False
    at = int(times[0])
    if at < now - max_age or at > now + skew:
        return False
    right = {hmac_sha256(secret, times[0].encode() + b"." + body) for secret in secrets}
    return any(name == "v1" and value in right for name, value in fields)


class NotJson(Exception):
    """The body is not JSON as RFC 8259 has it, in UTF-8."""


def parsed(body: bytes, *, doubled: bool = True) -> Any:
    """The body as plain JSON, of keys that are there twice the last. Raises ``NotJson``, without ``doubled`` for those
    too."""

    def refuse(constant: str) -> None:
        raise NotJson(constant)

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(found)
        if len(document) < len(found) and not doubled:
            raise NotJson("a key is there twice")
        return document

    try:
        return json.loads(body.decode("utf-8"), parse_constant=refuse, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise NotJson from error


def text_of(document: dict[str, Any], *path: str) -> Any:
    """What is at ``path``, None where the way there is none."""
    found: Any = document
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found
