"""The work that every contender does: DESIGN's W1, made from a seed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, Self

from worker.ops import samples
from worker.ops.samples import SampleDelivery

TEAMS: Final = 500
DUPLICATES: Final = 0.2
DISPLACEMENT: Final = 32


@dataclass(frozen=True)
class Workload:
    """``deliveries`` in the order in which they arrive: ``events`` distinct events, some of them twice."""

    seed: int
    events: int
    deliveries: tuple[SampleDelivery, ...]

    @classmethod
    def w1(cls, seed: int, events: int, teams: int = TEAMS, *, started: datetime | None = None) -> Self:
        """``events`` events of ``teams`` teams of Zipf(1.1) size, 1.3 to 1.6 KB each, numbered without gaps.

        ``started`` is when the first of them happened; by default just now, for an event that is late and older than
        ids are remembered would be quarantined. Nothing else of the work depends on the time.
        """
        made = samples.stream(
            seed,
            events,
            teams,
            duplicates=DUPLICATES,
            displacement=DISPLACEMENT,
            started=started or datetime.now(UTC),
        )
        return cls(seed, events, tuple(made))

    @cached_property
    def expected(self) -> dict[str, list[int]]:
        """Each team's numbers in the order in which they are to be handled."""
        found: dict[str, set[int]] = defaultdict(set)
        for delivery in self.deliveries:
            found[delivery.team].add(delivery.seq)
        return {team: sorted(seqs) for team, seqs in found.items()}

    @property
    def body_size(self) -> float:
        """Mean size of a body, bytes."""
        return sum(len(delivery.body) for delivery in self.deliveries) / len(self.deliveries)
