"""How a partition is getting on, for people who look: one script, whose cost does not grow with what waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts

MOST: Final = 256
"""Lanes (from either end), claims and held events that are looked at, each; with more, figures are near, not exact."""


@dataclass(frozen=True, slots=True)
class HandlerLook:
    """One handler's lanes in one partition. ``due`` may be claimed at once; ``claimed`` ones are being worked on.

    ``overdue_ms`` is how long the first due lane has been due. ``oldest_ms`` is how long ago the event of the oldest
    waiting job arrived: exact with up to ``2 * MOST`` lanes. ``stopped`` ones have jobs and are blocked; ``blocked``
    counts all that are, some of which may have no job now.
    """

    lanes: int
    due: int
    claimed: int
    overdue_ms: int | None
    oldest_ms: int | None
    stopped: int = 0
    blocked: int = 0

    @property
    def backing_off(self) -> int:
        """Lanes that wait for their first job's next attempt."""
        return max(0, self.lanes - self.due - self.claimed - self.stopped)


@dataclass(frozen=True, slots=True)
class PartitionLook:
    """``unread_ms`` and ``held_ms`` are how long ago the oldest of each arrived, None when there is none.

    ``sequencing``: a sequencer is at work, or its lease has not run out yet. ``now`` is server ms.
    """

    now: int
    unread_ms: int | None
    held_ms: int | None
    sequencing: bool
    handlers: Mapping[str, HandlerLook]


def look(scripts: Scripts, keys: PartitionKeys, handlers: Iterable[str]) -> PartitionLook:
    """Look at one partition. Raises ``StoreUnavailable``."""
    names = list(handlers)
    fixed = [keys.inbox, keys.state, keys.gaps, keys.lease, keys.held("")]
    per_handler = [
        key
        for name in names
        for key in (
            *(keys.ready(name), keys.claims(name), keys.lane(name, "")),
            *(keys.blocked(name), keys.turns(name)),
        )
    ]
    now, unread, sequencing, held, *found = scripts.run("look", fixed + per_handler, [MOST])

    def ago(since: bytes) -> int | None:
        return max(0, now - int(float(since))) if since else None

    return PartitionLook(
        now=now,
        unread_ms=ago(unread),
        held_ms=ago(held),
        sequencing=bool(sequencing),
        handlers={
            name: HandlerLook(lanes, due, claimed, ago(since), ago(oldest), stopped, blocked)
            for name, (lanes, due, claimed, since, oldest, stopped, blocked) in zip(names, found, strict=True)
        },
    )
