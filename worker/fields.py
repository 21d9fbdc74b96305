"""What of a change a handler can write elsewhere, by name: for settings such as ``HANDOFF_HUBSPOT_FIELDS``.

What the event says nothing of is left out, so that it is not written; what it has as null is None, and clears.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from worker.core.events import AssigneeChange

_ABSENT: Final = object()
Source = Callable[[AssigneeChange], object]


def _of_prospect(name: str) -> Source:
    return lambda change: change.prospect.data.get(name, _ABSENT)


def _of_context(name: str) -> Source:
    return lambda change: change.prospect.context.get(name, _ABSENT)


def _handle(change: AssigneeChange) -> object:
    data = change.prospect.data
    found = data.get("handle") or data.get("username") or _ABSENT
    return found.removeprefix("@") if isinstance(found, str) else found


def _thread(change: AssigneeChange) -> object:
    thread = change.event.data.get("thread")
    return thread.get("id", _ABSENT) if isinstance(thread, dict) else _ABSENT


def _changed_at(change: AssigneeChange) -> object:
    moment = change.occurred_at
    return _ABSENT if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


FIELDS: Final[Mapping[str, Source]] = {
    "id": lambda change: change.prospect.key,
    "handle": _handle,
    "display_name": _of_prospect("displayName"),
    "profile_url": _of_prospect("profileUrl"),
    "location": _of_prospect("location"),
    "website": _of_prospect("websiteUrl"),
    "followers": _of_prospect("followerCount"),
    "valuation": _of_context("valuation"),
    "status": _of_context("statusId"),
    "tags": _of_context("tags"),
    "notes": _of_context("notes"),
    "member": lambda change: change.assignee_id,
    "previous_member": lambda change: change.previous_assignee_id if change.previous_known else _ABSENT,
    "changed_at": _changed_at,
    "team": lambda change: change.team_id,
    "thread": _thread,
    "link": lambda _: _ABSENT,
}
"""The names and where they are found. ``link`` is made of a template: see ``values_of``."""

NAMES: Final = ", ".join(f"`{name}`" for name in FIELDS)


def checked(pairs: dict[str, str]) -> dict[str, str]:
    """``pairs`` of a name elsewhere and a field. Raises ``ValueError`` for a field that there is not."""
    if not FIELDS.keys() >= set(pairs.values()):
        raise ValueError(f"must be name=field pairs, each field one of {', '.join(FIELDS)}")
    return pairs


def checked_link(template: str | None) -> str | None:
    """A template of a link. Raises ``ValueError`` for one that can't be filled in."""
    try:
        (template or "").format(thread="", prospect="", team="")
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError("must be an address in which {prospect}, {thread} and {team} may stand") from None
    return template


def values_of(change: AssigneeChange, pairs: Mapping[str, str], *, link: str | None = None) -> dict[str, Any]:
    """What ``change`` has of the fields, by the names that ``pairs`` give them. A link that names a thread is left out
    where the event is about none."""
    found = {name: _value(change, field, link) for name, field in pairs.items()}
    return {name: value for name, value in found.items() if value is not _ABSENT}


def _value(change: AssigneeChange, name: str, link: str | None) -> object:
    if name != "link" or link is None:
        return FIELDS[name](change)
    thread = _thread(change)
    if thread is _ABSENT and "{thread" in link:
        return _ABSENT
    return link.format(thread=thread, prospect=change.prospect.key, team=change.team_id)
