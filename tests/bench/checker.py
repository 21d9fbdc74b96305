"""Whether a run did its work: every event exactly once, and each team's in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """``missing`` events were never handled, ``repeated`` calls were too many, ``unknown`` ones for no event of ours;
    ``disordered`` calls came after one for a higher number of the same team, without a word; ``late`` ones were marked:
    posted one by one, what is displaced by 32 places can outlast the wait for it (DESIGN 4)."""

    missing: int
    repeated: int
    unknown: int
    disordered: int
    late: int = 0

    @property
    def exactly_once(self) -> bool:
        return not (self.missing or self.repeated or self.unknown)

    def __str__(self) -> str:
        once = "" if self.exactly_once else f"{self.missing} missing, {self.repeated} repeated, {self.unknown} unknown"
        order = f"{self.disordered} out of order" if self.disordered else ""
        late = f" but for {self.late} marked late" if self.late else ""
        return ", ".join(filter(None, (once, order))) or f"exact, in order{late}"


def check(expected: Mapping[str, Sequence[int]], handled: Mapping[str, Sequence[int]], *, marked: int = 0) -> Verdict:
    """Compare what was handled, team by team in the order of the calls, with what there was to handle. ``marked`` calls
    were told that they are late."""
    missing = repeated = unknown = disordered = 0
    for team in expected.keys() | handled.keys():
        wanted, calls = set(expected.get(team, ())), Counter(handled.get(team, ()))
        missing += len(wanted - calls.keys())
        repeated += sum(count - 1 for seq, count in calls.items() if seq in wanted)
        unknown += sum(count for seq, count in calls.items() if seq not in wanted)
        highest = -1
        for seq in handled.get(team, ()):
            disordered += seq < highest
            highest = max(highest, seq)
    late = min(disordered, marked)
    return Verdict(missing, repeated, unknown, disordered - late, late)
