"""A job: one event in one lane. How it is written into the lane's list.

A job does not repeat the event, whose body is stored once; it has what the body lacks (the previous owner) and what is
needed before the body is looked at. It is text with single spaces, so that the scripts can read the first three fields:

    entry shared size seq marks rest

``entry`` is the body's id in the inbox, ``shared`` 1 when other handlers have a job for the same event, ``size`` the
body's length in bytes, by which a claim is bounded, ``marks`` one letter for the kind (or ``e``: an event without a
change) and then ``l`` for late, ``s`` for stale, ``k`` for a known previous owner, ``c`` for conflation's own use; a
number after them counts the calls that failed before it was the first of its lane, which batches make
(lua/settle.lua writes it); 0 where none of them is counted.

``rest`` comes last because ids may hold spaces. For most handlers it is the previous owner: ``=id``, or nothing for
nobody or unknown. A handler that conflates can join two jobs without a look at their bodies, so for it ``rest`` is

    +[previous or null, current or null, prospect key, event id, [ids of absorbed events]]
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from worker.core.changes import Change, ChangeKind
from worker.core.sequencing import Released

LETTERS: Final = {
    ChangeKind.ASSIGNED: "a",
    ChangeKind.REASSIGNED: "r",
    ChangeKind.UNASSIGNED: "u",
    ChangeKind.UNCHANGED: "n",
}
_KINDS: Final = {letter: kind for kind, letter in LETTERS.items()}


class Joint(NamedTuple):
    """What a job of a conflating handler can be joined by: from whom to whom a prospect went, and by which events.

    ``event_id`` is the job's own event, ``absorbed`` are earlier ones that it stands for, oldest first.
    """

    previous: str | None
    current: str | None
    prospect: str
    event_id: str
    absorbed: tuple[str, ...] = ()


class Job(NamedTuple):
    """``change`` is None for an event that says nothing of an owner, or whose handler asked for events. ``tried`` is
    how many of its calls failed and are not counted with its lane."""

    entry: str
    shared: bool
    size: int
    seq: int
    late: bool
    change: Change | None
    joint: Joint | None = None
    tried: int = 0


_decode_joint: Final = msgspec.json.Decoder(Joint).decode
_encode_joint: Final = msgspec.json.Encoder().encode


def encode(released: Released, *, shared: bool, conflate: bool = False) -> str:
    """``conflate``: for a handler that conflates. An event that makes no change is written alike for all."""
    (event, entry, _, size), late, change = released
    marks = "e"
    rest = ""
    if change is not None:
        marks = LETTERS[change.kind]
        if change.stale:
            marks += "s"
        if change.previous_known:
            marks += "k"
            if change.previous is not None:
                rest = "=" + change.previous
        if conflate:
            rest = write_joint((change.previous, event.assignee, event.prospect, event.id, ()))
    if late:
        marks += "l"
    return f"{entry} {'1' if shared else '0'} {size} {event.seq} {marks} {rest}"


def revived(text: bytes, *, stale: bool) -> bytes:
    """A job that was given up, as it goes back into its lane: late, and ``stale`` where a newer change went before it.

    ``shared`` is set: who else needs its body by now is written beside the body (store/lua/users.lua). Raises
    ``ValueError`` for what ``encode`` did not write.
    """
    entry, _, size, seq, marks, rest = text.split(b" ", 5)
    # Its attempts begin anew, and it has not been joined with what stands before it now.
    marks = marks.rstrip(b"0123456789").replace(b"c", b"")
    if stale and b"s" not in marks:
        marks += b"s"
    if b"l" not in marks:
        marks += b"l"
    return b" ".join((entry, b"1", size, seq, marks, rest))


def decode(text: bytes) -> Job:
    """Raises ``ValueError`` for what ``encode`` did not write."""
    entry, shared, size, seq, marks, rest = text.decode().split(" ", 5)
    change = joint = None
    tried = 0
    if not marks.isalpha():
        letters = marks.rstrip("0123456789")
        tried, marks = int(marks[len(letters) :]), letters
    if not marks.startswith("e"):
        kind = _KINDS.get(marks[:1])
        if kind is None:
            raise ValueError("a job without a kind")
        previous = rest[1:] if rest else None
        if rest.startswith("+"):
            joint = read_joint(rest)
            previous = joint.previous
        change = Change(kind, previous, "k" in marks, "s" in marks)
    return Job(entry, shared == "1", int(size), int(seq), "l" in marks, change, joint, tried)


def read_joint(rest: str) -> Joint:
    """Of a ``rest`` that begins with "+". Raises ``ValueError`` for what ``write_joint`` did not write."""
    return _decode_joint(rest[1:])


def write_joint(joint: Joint | tuple[object, ...]) -> str:
    """``joint`` as a job's ``rest``."""
    return "+" + _encode_joint(joint).decode()
