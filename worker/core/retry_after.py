"""The ``Retry-After`` of an HTTP answer: seconds, or a date (RFC 9110, sections 10.2.3 and 5.6.7).

A date is taken relative to the answer's own ``Date``, for the far side's clock may be another than ours. A header is
whatever a stranger sent: what can't be understood, or names no time to come, says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from worker.core.retry import AFTER_MAX, LEAST

SECONDS: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
LONGEST: Final = 100  # characters; no header worth reading is longer


def retry_after(headers: object, now: float) -> float | None:
    """How long to wait, more than 0 and at most ``AFTER_MAX`` seconds; None where the headers do not say.

    ``headers`` is a mapping of any library, or pairs; ``now`` is Unix seconds, for an answer without a ``Date``. Never
    raises.
    """
    text = _header(headers, "retry-after")
    if text is None:
        return None
    if SECONDS.fullmatch(text):
        delay = float(text)
    else:
        until = _date(text)
        if until is None:
            return None
        sent = _date(_header(headers, "date"))
        delay = until - (now if sent is None else sent)
    return max(LEAST, min(delay, AFTER_MAX)) if delay > 0 else None


def _header(headers: object, name: str) -> str | None:
    try:
        for key, value in _pairs(headers):
            if _text(key).lower() == name:
                text = _text(value).strip()
                return text if len(text) <= LONGEST else None
    except Exception:  # noqa: BLE001 - a stranger's object: whatever it does, the failure it belongs to is to be judged
        return None
    return None


def _pairs(headers: Any) -> Iterable[tuple[Any, Any]]:
    pairs: Iterable[tuple[Any, Any]] = headers.items() if hasattr(headers, "items") else headers or ()
    return pairs


def _text(value: object) -> str:
    if isinstance(value, list | tuple) and value:
        value = value[0]
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
