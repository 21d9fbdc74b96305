"""What a sequencer reads at once, and what becomes of the parts of it that can't be handled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from worker.core.sequencing import INTERNAL_ERROR, Delivery, Plan, Proof, Quarantined
from worker.store.records import arrival_ms

SET_ASIDE_MS: Final = 60_000  # until a team whose held events could not be released is tried again


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read. ``clock`` is the time by which gaps are judged: the server's when ``drained``, else the arrival
    of the last delivery read; ``now`` is the server's time. All in ms. ``more_due``: other teams' waits may be over
    too. ``as_of`` is the clock of a part of a batch."""

    deliveries: list[Delivery | tuple[str, Proof]]
    bodies: dict[str, tuple[bytes, str | None]]
    due: list[str]
    now: int
    drained: bool
    more_due: bool = False
    as_of: int | None = None

    @property
    def clock(self) -> int:
        if self.as_of is not None:
            return self.as_of
        return self.now if self.drained or not self.deliveries else arrival_ms(self.deliveries[-1][0])

    def parts(self) -> Iterator[Batch]:
        """The same work in the smallest steps: each delivery by itself, then each team that is due."""
        for delivery in self.deliveries:
            yield replace(self, deliveries=[delivery], due=[], as_of=arrival_ms(delivery[0]))
        for team in self.due:
            yield replace(self, deliveries=[], due=[team], as_of=self.clock)

    def set_aside(self) -> Plan:
        """What to do about a part that can't be planned or written: a delivery goes to the quarantine, a team that is
        due is left alone for a while."""
        plan = Plan(deadlines=dict.fromkeys(self.due, self.now + SET_ASIDE_MS))
        for delivery in self.deliveries:
            if isinstance(delivery, Delivery):
                plan.quarantined.append(
                    Quarantined(delivery.entry, INTERNAL_ERROR, "a fault of Handoff's; it is logged")
                )
            else:
                plan.proofs.append(delivery[0])
        return plan
