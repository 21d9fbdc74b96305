"""Builds events and changes in the provider's shapes: what a test of a handler calls it with, or delivers.

The bodies are the provider's own samples (worker/ops/sample_events) with other values; what a test does not name has a
plausible default. Each event built in a process has a higher ``seq`` than the one before, unless it is given.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from worker.core.changes import Change, ChangeKind, Owner, assignee_change
from worker.core.envelope import ASSIGNMENTS
from worker.core.events import AssigneeChange, Event
from worker.ops.samples import sample

TEAM: Final = "team1"
PROSPECT: Final = "prospect1"
ASSIGNEE: Final = "ada"

_seqs = itertools.count(1)


def event(
    type: str = "message.created",  # noqa: A002 - the provider's word
    data: Mapping[str, Any] | None = None,
    *,
    team: str = TEAM,
    seq: int | None = None,
    id: str | None = None,  # noqa: A002 - as above
    at: datetime | None = None,
    late: bool = False,
    version: Literal[1, 2] = 1,
    prospect: str = PROSPECT,
    assignee: str | None = ASSIGNEE,
    valuation: float | None = None,
    notes: str | None = None,
    status: str | None = None,
    tags: Sequence[str] = (),
    profile: Mapping[str, Any] | None = None,
) -> Event:
    """An event of any type, as a handler with ``on=`` gets it.

    ``data`` is the payload as it is to be; without it, events of prospects and threads have the provider's sample with
    the values given here (``profile``: other fields of the prospect, in the provider's spelling, such as
    ``{"username": "sarahchen"}``), and others have an empty one. ``id`` and ``at`` (when it happened) default to an id
    made of team, number and type, and to now. ``version=2`` is the shape of the provider's API v2, whose bodies name no
    team: deliver them to the team's own URL.
    """
    number = next(_seqs) if seq is None else seq
    moment = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head: dict[str, Any] = {"id": id or _id(team, number, type), "seq": number}
    if version == 2:
        resource = type.partition(".")[0]
        named = prospect if resource in ("contact", "prospect") else _id(team, prospect, resource)
        head |= {"type": type, "apiVersion": "2", "createdAt": moment}
        head["object"] = {"type": resource, "id": named, "url": f"/{resource}s/{named}"}
        head["data"] = dict(data) if data is not None else {"assigneeId": assignee} if type in ASSIGNMENTS else {}
    else:
        head |= {"teamId": team, "type": type, "timestamp": moment, "version": "1.0"}
        context = {"valuation": valuation, "notes": notes, "statusId": status, "tags": list(tags)}
        head["data"] = dict(data) if data is not None else _data(type, prospect, assignee, context, profile or {})
    raw = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    return Event(raw, team_id=team, seq=number, late=late)


def change(
    assignee: str | None = ASSIGNEE,
    *,
    previous: str | None = None,
    previous_known: bool | None = None,
    kind: ChangeKind | str | None = None,
    late: bool = False,
    stale: bool = False,
    absorbed: Sequence[str] = (),
    version: Literal[1, 2] = 1,
    type: str | None = None,  # noqa: A002 - the provider's word
    **about: Any,
) -> AssigneeChange:
    """A change of a prospect's owner from ``previous`` to ``assignee`` (None: nobody), as a handler gets it.

    ``kind`` is worked out of the two, as the sequencer does, unless it is given. ``previous_known=False`` is the first
    change ever seen of a prospect; so is a ``stale`` one, of which nobody knows what it changed. ``type`` may be one of
    the deprecated ``thread.assigned`` and ``thread.unassigned``; ``about`` is the rest of what ``event`` takes:
    ``team``, ``prospect``, ``seq``, ``id``, ``at``, ``valuation``, ``notes``, ``status``, ``tags``, ``profile``.

    Raises ``ValueError`` for what no event can say.
    """
    known = not stale if previous_known is None else previous_known
    if previous is not None and not known:
        raise ValueError("previous is given, and not known: a stale change, and the first of a prospect, have none")
    named = type or ("contact.assigneeChanged" if version == 2 else "prospect.assigneeChanged")
    if named not in ASSIGNMENTS or (version == 2 and named != "contact.assigneeChanged"):
        raise ValueError(f"{named!r} of version {version} says nothing of an owner: use event(...)")
    made = event(named, assignee=assignee, late=late or stale, version=version, **about)
    owner = Owner(-1, 0, "", previous) if known else None
    found = Change(*assignee_change(owner, made.envelope)[:3], stale)
    return AssigneeChange(
        made,
        kind=found.kind if kind is None else kind,
        previous_assignee_id=found.previous,
        previous_known=found.previous_known,
        stale=stale,
        absorbed=tuple(absorbed),
    )


def changes(
    *assignees: str | None,
    previous: str | None = None,
    previous_known: bool = False,
    start: int | None = None,
    at: datetime | None = None,
    **about: Any,
) -> list[AssigneeChange]:
    """The history of one prospect that belongs to each of ``assignees`` in turn: ``changes("ada", "ben", None)`` is
    assigned, reassigned and unassigned.

    The first has no known previous owner, as in life, unless ``previous`` is given or ``previous_known`` says that it
    is nobody. ``start`` is the first number; ``at`` when that happened, a second before the next. ``about``: as for
    ``change``.
    """
    history: list[AssigneeChange] = []
    known = previous_known or previous is not None
    began = at or datetime.now(UTC)
    for place, assignee in enumerate(assignees):
        seq = None if start is None else start + place
        moment = began + timedelta(seconds=place)
        made = change(assignee, previous=previous, previous_known=known, seq=seq, at=moment, **about)
        history.append(made)
        previous, known = assignee, True
    return history


def _data(
    named: str, prospect: str, assignee: str | None, context: dict[str, Any], profile: Mapping[str, Any]
) -> dict[str, Any]:
    resource = named.partition(".")[0]
    if resource not in ("prospect", "thread"):
        return {}
    handle = "".join(letter for letter in prospect.lower() if letter.isalnum()) or "somebody"
    identity = {
        "platformId": str(10**18 + zlib.crc32(prospect.encode())),
        "externalId": prospect,
        "username": handle,
        "handle": f"@{handle}",
        "profileUrl": f"https://x.com/{handle}",
        "context": context,
        **profile,
    }
    if resource == "thread":
        data: dict[str, Any] = sample("thread.assigned")["data"]
        data["thread"].update(id=_id(prospect, "thread"), assigneeId=assignee)
        data["thread"]["prospect"].update({name: identity[name] for name in identity if name != "profileUrl"})
        return data
    if named == "prospect.assigneeChanged":
        context["assigneeId"] = assignee
    data = dict(sample("prospect.assigneeChanged")["data"])
    data["prospect"].update(identity)
    return data


def _id(*parts: object) -> str:
    """24 characters of ``[0-9a-z]``, as the provider's ids are, the same for the same parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]
