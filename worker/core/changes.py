"""Who owned a prospect before, who owns it now: the change that the provider's payload only tells half of.

The payload has the value after the change and nothing else (PROVIDER.md 5). The value before comes from the
events that were released earlier, which is why changes are worked out where the order is made.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from worker.core.envelope import Envelope


class ChangeKind(StrEnum):
    """What happened to the owner. The values are public: handlers compare with them."""

    ASSIGNED = "assigned"  # nobody -> A
    REASSIGNED = "reassigned"  # A -> B
    UNASSIGNED = "unassigned"  # A -> nobody
    UNCHANGED = "unchanged"  # A -> A: an echo, for instance the deprecated thread.assigned beside the real event


class Owner(NamedTuple):
    """A prospect's owner as last released, and which event said so: its place in the order is ``place``."""

    seq: int
    occurred_ms: int
    id: str
    assignee: str | None


class Change(NamedTuple):
    """The change that one event makes. ``stale``: a newer event of the prospect has been released before it."""

    kind: ChangeKind
    previous: str | None
    previous_known: bool
    stale: bool = False


def assignee_change(known: Owner | None, event: Envelope) -> Change:
    """What ``event`` changes, given the owner that is ``known`` so far (None: never heard of the prospect).

    The first change ever seen of a prospect has no known previous owner; it is a change all the same. A stale event is
    told by its place: (seq, time, id), the order in which events are released.
    """
    if known is None:
        return Change(kind_of(None, event.assignee, known=False), None, previous_known=False)
    if known[:3] > _place(event):
        return Change(kind_of(None, event.assignee, known=False), None, previous_known=False, stale=True)
    return Change(kind_of(known.assignee, event.assignee, known=True), known.assignee, previous_known=True)


def kind_of(previous: str | None, current: str | None, *, known: bool) -> ChangeKind:
    """What a change from ``previous`` to ``current`` is called; by ``current`` alone where the first is not known."""
    if known and previous == current:
        return ChangeKind.UNCHANGED
    if known and previous is not None and current is not None:
        return ChangeKind.REASSIGNED
    return ChangeKind.UNASSIGNED if current is None else ChangeKind.ASSIGNED


def overtaken(known: Owner | None, event: Envelope) -> bool:
    """Would a call with ``event``, made after all that was released so far, leave the prospect with an old owner?

    A newer event that says the same owner does no harm: one click in Inbox sends several (PROVIDER.md 5), and a
    change's echoes reach no handler, so that this one is what tells it.
    """
    return known is not None and known[:3] > _place(event) and known.assignee != event.assignee


def stale_by_now(change: Change, known: Owner | None, event: Envelope) -> bool:
    """Is it too late to call a handler with ``event``, which made ``change`` when it was released? ``known`` is the
    owner as of now, None where it was forgotten: then what was stale already is taken to be so still."""
    return change.stale if known is None else overtaken(known, event)


def owner_after(event: Envelope) -> Owner:
    """What is known of the prospect once ``event`` is released."""
    return Owner(*_place(event), event.assignee)


def _place(event: Envelope) -> tuple[int, int, str]:
    return event.seq, event.occurred_ms or 0, event.id
