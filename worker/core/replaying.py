"""Which released events a replay gives to a handler again, and as what job. Pure: the archive is read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from worker.core import jobs
from worker.core.archive import Record
from worker.core.changes import Owner, overtaken
from worker.core.envelope import Envelope
from worker.core.handlers import HandlerSpec
from worker.core.lanes import escaped, lane_of
from worker.core.sequencing import Arrival, Released


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events; None is any. ``type`` is a pattern, ``since`` and ``until`` (server ms, both included) are about
    their release."""

    team: str | None = None
    prospect: str | None = None
    type: str | None = None
    since: int | None = None
    until: int | None = None

    def by_time(self, record: Record) -> bool:
        return (self.since is None or self.since <= record.released) and (
            self.until is None or record.released <= self.until
        )

    def by_event(self, event: Envelope) -> bool:
        return (
            self.team in (None, event.team)
            and self.prospect in (None, event.prospect)
            and (self.type is None or fnmatchcase(event.type, self.type))
        )


class Skip(StrEnum):
    """Why an event is not replayed."""

    OTHER = "other"  # not among those that were asked for
    UNWANTED = "unwanted"  # not the handler's business
    LOST = "lost"  # its body is not there
    WAITING = "waiting"  # the handler has a job for it already
    DEAD = "dead"  # so it has, among the dead letters
    STALE = "stale"  # a newer change of the prospect has been released since


@dataclass(frozen=True, slots=True)
class Again:
    """A job for the lane."""

    lane: str
    job: str


def terms_of(described: Mapping[str, Any]) -> HandlerSpec:
    """As much of a handler as routing needs, from what its worker announced (``HandlerSpec.describe``)."""
    on = described.get("on")
    return HandlerSpec(
        name=str(described["name"]),
        function=_nothing,
        on=tuple(on) if isinstance(on, list) else None,
        order_by=described.get("order_by", "team"),
        late=described.get("late", "skip_stale"),
        unchanged=bool(described.get("unchanged", False)),
        conflate=bool(described.get("conflate", False)),
    )


def _nothing(*_: object) -> None:
    return None


def choose(
    record: Record,
    event: Envelope | None,
    spec: HandlerSpec,
    wanted: Wanted,
    *,
    ended: str,
    owner: Owner | None,
    force: bool,
) -> Again | Skip:
    """What a replay to ``spec`` does with one record.

    ``event`` is None when the body is lost; ``ended`` is how the handler's job for it ended, ``""`` when it has not (or
    never had one); ``owner`` is the prospect's as last released. ``force`` lets stale changes through: they are marked
    so. Replayed jobs are marked late, for others may have gone before them.
    """
    if event is None:
        return Skip.LOST
    if not wanted.by_event(event):
        return Skip.OTHER
    change = record.job.change
    if not spec.wants(event.type, change and change._replace(stale=False)):
        return Skip.UNWANTED
    if spec.name in record.handlers and not ended:
        return Skip.WAITING
    if ended == "dead":
        return Skip.DEAD
    stale = change is not None and (change.stale or overtaken(owner, event))
    if stale and spec.on is None:
        if not force and spec.late != "all":
            return Skip.STALE
        change = change and change._replace(stale=True)
    entry = record.job.entry
    released = Released(Arrival(event, entry, 0, record.job.size), True, change)
    job = jobs.encode(released, shared=True, conflate=spec.conflate)
    return Again(lane_of(spec.order_by, escaped(event.team), event.prospect, entry), job)
