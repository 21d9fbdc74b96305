"""How long to wait at a gap: fixed, or learnt from how late the missing events really come.

A jitter buffer's rule. Every new event is an observation: 0 ms when nothing of a higher number had come before it, else
how long the higher ones had been waiting. The wait is a high quantile of those observations, between a floor and a cap.
So a provider that never reorders costs almost no wait, and one that does is waited for as long as it needs. Old
observations fade, for the network of last week says little about today's.

Observations are kept as counts in buckets that double in width: bucket 0 is "in order", bucket i ends at 2**i ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

BUCKETS: Final = 18  # the last ends at 131 s, longer than any sensible cap
QUANTILE: Final = 0.999
FADE_AT: Final = 4096.0  # observations; then all counts are halved
PRIOR_BUCKET: Final = 9  # before anything is known, gap-fillers are taken to come within 512 ms ...
PRIOR_WEIGHT: Final = 0.1  # ... a belief that a hundred events in order outweigh


def _prior() -> list[float]:
    counts = [0.0] * BUCKETS
    counts[PRIOR_BUCKET] = PRIOR_WEIGHT
    return counts


@dataclass(slots=True)
class Lateness:
    """Faded counts of observed lateness of one partition, and the wait that follows from them."""

    counts: list[float] = field(default_factory=_prior)

    @classmethod
    def restore(cls, counts: Sequence[float] | None) -> Lateness:
        """From what ``dump`` gave; anything of another shape starts afresh."""
        if counts is None or len(counts) != BUCKETS or not all(0 <= count < inf for count in counts):
            return cls()
        return cls(list(counts))

    def dump(self) -> list[float]:
        return [round(count, 3) for count in self.counts]

    def observe(self, late_ms: int, times: int = 1) -> None:
        """``times`` events came ``late_ms`` after the first event of a higher number (0: in order)."""
        self.counts[min(max(late_ms, 0).bit_length(), BUCKETS - 1)] += times
        if sum(self.counts) > FADE_AT:
            self.counts = [count / 2 for count in self.counts]

    def quantile_ms(self, quantile: float = QUANTILE) -> int:
        """The end of the bucket that ``quantile`` of all observations reach; 0 when they came in order."""
        beyond = sum(self.counts) * (1 - quantile)
        for bucket in range(BUCKETS - 1, 0, -1):
            beyond -= self.counts[bucket]
            if beyond < 0:
                return 1 << bucket
        return 0


@dataclass(frozen=True, slots=True)
class GapWait:
    """The setting: ``fixed_ms``, or None for the learnt wait between ``least_ms`` and ``most_ms``."""

    fixed_ms: int | None = None
    least_ms: int = 20
    most_ms: int = 10_000

    def of(self, lateness: Lateness) -> int:
        """Milliseconds that an event waits above a gap."""
        if self.fixed_ms is not None:
            return self.fixed_ms
        return min(max(lateness.quantile_ms(), self.least_ms), self.most_ms)
