"""From released events to jobs: which lanes get what, which bodies are still needed. Pure, like the plan before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from worker.core import archive, jobs
from worker.core.changes import Change
from worker.core.lanes import OrderBy, escaped, lane_of
from worker.core.sequencing import Released

ARCHIVED: Final = 2**30
"""What the archive weighs among the users of a body (store/lua/users.lua); a job weighs 1."""


class Terms(NamedTuple):
    """What dispatching needs to know of a handler that gets a job."""

    name: str
    order_by: OrderBy = "team"
    conflate: bool = False


Route = Callable[[str, Change | None], Sequence[Terms]]
"""(event type, change) -> the handlers that get a job."""


@dataclass(slots=True)
class Dispatch:
    """What the released events of one plan turn into.

    ``lanes`` has the jobs of each (handler, lane), in order; ``users`` who needs the body of an entry, where more than
    one does (store/lua/users.lua); ``archive`` the records of all; ``unwanted`` the entries that nobody needs;
    ``counts`` is for the ledger.
    """

    lanes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    archive: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def dispatch(released: Iterable[Released], route: Route, archived_at: int | None = None) -> Dispatch:
    """A job for each handler that wants an event, in the lane that the handler's order gives it.

    ``archived_at`` is the time of release (ms) that the records of the archive get; None where there is none.
    """
    result = Dispatch()
    lanes = result.lanes
    routed: dict[str, int] = {}
    size = kept = kept_bytes = 0
    for item in released:
        event, entry, *_ = item.arrival
        handlers = route(event.type, item.change)
        users = len(handlers) if archived_at is None else len(handlers) + ARCHIVED
        if not users:
            result.unwanted.append(entry)
            continue
        result.counts["stored"] += 1
        if users not in (1, ARCHIVED):
            result.users[entry] = users
        shared = users > 1
        plain = joint = ""  # each is written once for all handlers of its kind
        if archived_at is not None:
            plain = jobs.encode(item, shared=shared)
            result.archive.append(archive.encode(event.id, [terms.name for terms in handlers], archived_at, plain))
            size += item.arrival.size
            if not handlers:
                kept += 1
                kept_bytes += item.arrival.size
        team = escaped(event.team)
        for handler, order_by, conflate in handlers:
            if conflate:
                job = joint = joint or jobs.encode(item, shared=shared, conflate=True)
            else:
                job = plain = plain or jobs.encode(item, shared=shared)
            lane = team if order_by == "team" else lane_of(order_by, team, event.prospect, entry)
            lanes.setdefault((handler, lane), []).append(job)
            routed[handler] = routed.get(handler, 0) + 1
    result.counts.update({f"routed:{handler}": count for handler, count in routed.items()})
    result.counts.update(kept=kept, kept_bytes=kept_bytes, archive_bytes=size)
    return result
