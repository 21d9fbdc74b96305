"""From released events to jobs: which lanes get what, which bodies are still needed. Pure, like the plan before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from worker.core import jobs
from worker.core.changes import Change
from worker.core.sequencing import Released

Route = Callable[[str, Change | None], Sequence[str]]
"""(event type, change) -> names of the handlers that get a job."""


@dataclass(slots=True)
class Dispatch:
    """What the released events of one plan turn into.

    ``lanes`` has the jobs of each (handler, lane), in order; ``shared`` how many handlers an entry has jobs for, where
    more than one; ``unwanted`` the entries that no handler wants; ``counts`` is for the ledger.
    """

    lanes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    unwanted: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def dispatch(released: Iterable[Released], route: Route) -> Dispatch:
    """A job for each handler that wants an event, in the lane of the event's team."""
    result = Dispatch()
    routed: Counter[str] = Counter()
    for item in released:
        event, entry, *_ = item.arrival
        handlers = route(event.type, item.change)
        if not handlers:
            result.unwanted.append(entry)
            continue
        if len(handlers) > 1:
            result.shared[entry] = len(handlers)
        result.counts["stored"] += 1
        job = jobs.encode(item, shared=len(handlers) > 1)
        routed.update(handlers)
        for handler in handlers:
            result.lanes.setdefault((handler, event.team), []).append(job)
    result.counts.update({f"routed:{handler}": count for handler, count in routed.items()})
    return result
