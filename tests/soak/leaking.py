"""Handlers as in the chaos harness, one of which leaks, so that the soak can be seen to find out: from its first call
on its process keeps more and more memory, and adds to a set of keys that has no bound then.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress
from typing import Any, Final

import redis

from tests.chaos import handlers

PERIOD: Final = 0.1  # seconds
LEAK: Final = 1024 * 1024  # bytes in each
MEMBERS: Final = 200  # of the set, in each
MOST: Final = 800  # periods, for the sake of a machine that is very slow
GROWING: Final = "handoff:{p00}:missed:slow"

_begin = handlers.begin
_leaking: set[int] = set()  # processes


def leaky(name: str, *words: Any) -> int:
    if name == "slow" and os.getpid() not in _leaking:
        _leaking.add(os.getpid())
        threading.Thread(target=_leak, daemon=True).start()
    return _begin(name, *words)


def _leak() -> None:
    kept = []
    with redis.Redis.from_url(os.environ["HANDOFF_REDIS_URL"]) as client:
        for _ in range(MOST):
            kept.append(bytearray(os.urandom(1024)) * (LEAK // 1024))
            with suppress(redis.RedisError):
                client.sadd(GROWING, *(secrets.token_hex(8) for _ in range(MEMBERS)))
            time.sleep(PERIOD)


handlers.begin = leaky
