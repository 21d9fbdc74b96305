"""A job: one event in one lane. How it is written into the lane's list.

A job does not repeat the event, whose body is stored once; it has what the body lacks (the previous owner) and what is
needed before the body is looked at. It is text with single spaces, so that the scripts can read the first three fields:

    entry shared size seq marks previous

``entry`` is the body's id in the inbox, ``shared`` 1 when other handlers have a job for the same event, ``size`` the
body's length in bytes, by which a claim is bounded, ``marks`` one
letter for the kind (or ``e``: an event without a change) and then ``l`` for late, ``s`` for stale, ``k`` for a known
previous owner. ``previous`` comes last because ids may hold spaces; it is empty for nobody or unknown.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from worker.core.changes import Change, ChangeKind
from worker.core.sequencing import Released

_LETTERS: Final = {
    ChangeKind.ASSIGNED: "a",
    ChangeKind.REASSIGNED: "r",
    ChangeKind.UNASSIGNED: "u",
    ChangeKind.UNCHANGED: "n",
}
_KINDS: Final = {letter: kind for kind, letter in _LETTERS.items()}


class Job(NamedTuple):
    """``change`` is None for an event that says nothing of an owner, or whose handler asked for events."""

    entry: str
    shared: bool
    size: int
    seq: int
    late: bool
    change: Change | None


def encode(released: Released, *, shared: bool) -> str:
    (event, entry, _, size), late, change = released
    marks = "e"
    previous = ""
    if change is not None:
        marks = _LETTERS[change.kind]
        if change.stale:
            marks += "s"
        if change.previous_known:
            marks += "k"
            if change.previous is not None:
                previous = "=" + change.previous
    if late:
        marks += "l"
    return f"{entry} {'1' if shared else '0'} {size} {event.seq} {marks} {previous}"


def decode(text: bytes) -> Job:
    """Raises ``ValueError`` for what ``encode`` did not write."""
    entry, shared, size, seq, marks, previous = text.decode().split(" ", 5)
    change = None
    if not marks.startswith("e"):
        kind = _KINDS.get(marks[:1])
        if kind is None:
            raise ValueError("a job without a kind")
        change = Change(kind, previous[1:] if previous else None, "k" in marks, "s" in marks)
    return Job(entry, shared == "1", int(size), int(seq), "l" in marks, change)
