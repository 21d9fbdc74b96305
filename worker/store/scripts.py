"""The Lua scripts, one operation each, and what their result codes mean.

Each script's header gives its KEYS, ARGV and results. A script is sent by its digest, and loaded when the server does
not know it (redis-py does both). Codes become typed errors here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final

import redis

from worker.errors import LeaseLost
from worker.store.client import unavailable_as_error

NAMES: Final = (
    "acquire",
    "announce",
    "audit",
    "beat",
    "claim",
    "commit",
    "conflate",
    "control",
    "drop",
    "due",
    "give_back",
    "lead",
    "fill",
    "look",
    "pause",
    "peek",
    "read",
    "release",
    "renew",
    "replay",
    "requeue",
    "revive",
    "settle",
    "take",
    "trim",
    "unblock",
    "unread",
)

Word = str | bytes | int | float


class Code(IntEnum):
    """What ``acquire``, ``commit``, ``conflate``, ``release`` and each lane of ``settle`` answer with, first."""

    CHANGED = -2  # conflate
    LEASE_LOST = -1
    DONE = 0
    OK = 1
    HANDED_ON = 2

    MORE = 1  # release: there is more to read
    BUSY = 0  # acquire: another sequencer has the lease


INCLUDE: Final = re.compile(r"^--#include (\w+)$", re.MULTILINE)
FRAGMENTS: Final = ("grants", "missed", "users")
"""Files that are no scripts, but parts of some."""


@cache
def source(name: str) -> str:
    """A script as the server gets it: each line ``--#include name`` is replaced by that file."""
    text = files("worker.store").joinpath("lua", f"{name}.lua").read_text()
    return INCLUDE.sub(lambda found: source(found[1]), text)


class Scripts:
    """The scripts, ready to run on one client."""

    def __init__(self, client: redis.Redis) -> None:
        self._scripts = {name: client.register_script(source(name)) for name in NAMES}

    def run(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """The script's answer. Raises ``StoreUnavailable`` when the server can't run it now."""
        with unavailable_as_error():
            return self._scripts[name](keys=keys, args=args)


def owned(code: int, what: str) -> Code:
    """A result code as an enum; raises ``LeaseLost`` for the one that says that nothing was written."""
    if code == Code.LEASE_LOST:
        raise LeaseLost(f"{what} belongs to another process now; nothing was written")
    return Code(code)
