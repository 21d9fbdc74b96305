"""The Lua scripts, one operation each, and what their result codes mean.

Each script's header gives its KEYS, ARGV and results. A script is sent by its digest, and as a whole when the server
does not know it. Codes become typed errors here and nowhere else.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final

import redis

from worker.errors import LeaseLost
from worker.store.client import COMMAND_TIMEOUT, unavailable_as_error

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
    NOT_PUSHED = 2  # commit, of a bell


PATIENT: Final = frozenset({"settle"})
"""Asked again while a cluster moves the slot of their keys to another node, and refuses all scripts for it (TRYAGAIN):
what has been done would be done once more if it were not written. Whatever else is refused can be done later."""

TRY_EVERY: Final = 0.02  # seconds between two tries, for no longer than an answer may take

INCLUDE: Final = re.compile(r"^--#include (\w+)$", re.MULTILINE)
LOADED: Final = ("ring",)
"""Scripts that workers load for the ingress, which runs them and may load none."""

FRAGMENTS: Final = ("grants", "missed", "reading", "users")
"""Files that are no scripts, but parts of some."""


@cache
def source(name: str) -> str:
    """A script as the server gets it: each line ``--#include name`` is replaced by that file."""
    text = files("worker.store").joinpath("lua", f"{name}.lua").read_text()
    return INCLUDE.sub(lambda found: source(found[1]), text)


def digest(text: str) -> str:
    """What the server knows a script by."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """The scripts, ready to run on one client."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._texts = {name: source(name) for name in NAMES}
        self._digests = {name: digest(text) for name, text in self._texts.items()}

    def load(self) -> None:
        """Have the server know the scripts that others run. Raises ``StoreUnavailable``."""
        with unavailable_as_error():
            for name in LOADED:
                self._client.script_load(source(name))

    def run(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """The script's answer. Raises ``StoreUnavailable`` when the server can't run it now."""
        end = time.monotonic() + (COMMAND_TIMEOUT if name in PATIENT else 0)
        with unavailable_as_error():
            while True:
                try:
                    return self._run(name, keys, args)
                except redis.exceptions.TryAgainError:
                    if time.monotonic() >= end:
                        raise
                time.sleep(TRY_EVERY)

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        try:
            return self._client.evalsha(self._digests[name], len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            # Whole, to the server that lacks it: that also loads it there. A cluster has many, and one may be new.
            return self._client.eval(self._texts[name], len(keys), *keys, *args)


def owned(code: int, what: str) -> Code:
    """A result code as an enum; raises ``LeaseLost`` for the one that says that nothing was written."""
    if code == Code.LEASE_LOST:
        raise LeaseLost(f"{what} belongs to another process now; nothing was written")
    return Code(code)
