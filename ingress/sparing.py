"""Logs of things that a stranger can cause at will: the first at once, then one line per interval with their number."""

from __future__ import annotations

import time
from typing import Any, Final

import structlog

INTERVAL: Final = 10.0  # seconds

log = structlog.get_logger(__name__)


class SparingLog:
    """At most one line per event name and ``interval`` seconds; ``times`` says how many it stands for."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._silent_until: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def warning(self, event: str, kind: str, **context: Any) -> None:
        """Log ``event``, or only count it. ``kind`` is one of a few words of ours."""
        key = f"{event}:{kind}"
        self._untold[key] = self._untold.get(key, 0) + 1
        now = time.monotonic()
        if now >= self._silent_until.get(key, 0.0):
            self._silent_until[key] = now + self._interval
            log.warning(event, kind=kind, times=self._untold.pop(key), **context)
