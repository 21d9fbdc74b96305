"""The whole of a body as plain JSON, for whoever wants more of an event than its envelope (worker.core.events, models).

JSON sets no bound to numbers (RFC 8259, 6), so ``1e999`` and an integer of a thousand digits get as far as a handler:
what orders events passes over them. msgspec refuses such numbers, and Python integers of more than 4,300 digits. Here
they are read, as floats where nothing else holds them, or one strange number would keep a handler from all the rest.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

LONGEST_INTEGER: Final = (
    4300  # digits that int() takes (docs.python.org, "Integer string conversion length limitation")
)


def quickly(body: bytes) -> Any:
    """The document in ``body``. Raises ``ValueError`` or ``RecursionError`` for what is no JSON."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return slowly(body)


def slowly(body: bytes) -> Any:
    """The same, nested as deeply as Python can follow."""
    return json.loads(body, parse_int=_whole)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)
