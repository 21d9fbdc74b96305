"""A handler's rate, shared by all workers: calls are taken before lanes are claimed, and unused ones given back."""

from __future__ import annotations

from worker.core.handlers import Rate
from worker.store import keys
from worker.store.scripts import Scripts


class RateStore:
    """Grants at most ``rate.calls`` in any ``rate.seconds``, over all processes. May raise ``StoreUnavailable``."""

    def __init__(self, scripts: Scripts, prefix: str, handler: str, rate: Rate) -> None:
        self._scripts = scripts
        self._key = keys.rate(prefix, handler)
        self._rate = rate

    def take(self, wanted: int) -> tuple[int, int]:
        """(granted calls, at most ``wanted``; milliseconds until one more can be had)."""
        granted, wait = self._run(wanted)
        return granted, wait

    def give_back(self, unused: int) -> None:
        """Return calls of the latest ``take`` that were not made."""
        if unused > 0:
            self._run(-unused)

    def _run(self, wanted: int) -> tuple[int, int]:
        granted, wait = self._scripts.run(
            "take", [self._key], [self._rate.calls, max(1, int(self._rate.seconds * 1000)), wanted]
        )
        return int(granted), int(wait)
