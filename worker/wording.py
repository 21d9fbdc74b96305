"""Texts about a change that an operator writes and Handoff fills in: ``{name} is yours now``.

``str.format`` would also take ``{name.__class__}``, ``{name[0]}`` and ``{name!r:>99999999}``. Here a field is a name of
a list, nothing else, and one that is not on it stops the start.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Mapping
from typing import Final

from worker import AssigneeChange

FIELDS: Final = (
    *("name", "handle", "status", "valuation", "details", "link", "notes"),
    *("owner", "previous", "key", "platform", "team"),
)
"""Of a change. ``details`` is handle, status if it has a name, and valuation, as far as there are any, in parentheses
after a space."""

_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


class Template:
    """A text with ``{fields}``; ``{{`` and ``}}`` are braces. Raises ``ValueError`` in one line, without the text."""

    def __init__(self, text: str, fields: Collection[str]) -> None:
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError:
            raise ValueError("must not have a single brace: write {{ or }} for one") from None
        self._parts: list[tuple[str, str | None]] = []
        for literal, field, spec, conversion in parsed:
            if field is not None and (field not in fields or spec or conversion):
                shown = field if field.isidentifier() and not spec and not conversion else "..."
                raise ValueError(f"has no field {{{shown}}} but " + ", ".join(f"{{{name}}}" for name in fields))
            self._parts.append((literal, field))

    @property
    def fields(self) -> frozenset[str]:
        """Those that it names."""
        return frozenset(field for _, field in self._parts if field is not None)

    def fill(self, values: Mapping[str, str]) -> str:
        """The text; a field without a value is nothing."""
        return "".join(literal + ("" if field is None else values.get(field, "")) for literal, field in self._parts)


def fields_of(
    change: AssigneeChange,
    name_of: Callable[[str | None, str], str],
    statuses: Mapping[str, str],
    *,
    notes: bool = False,
    shown: bool = True,
) -> dict[str, str]:
    """What ``FIELDS`` are of a change. ``name_of`` answers for a member id, or None and what nobody is called;
    ``statuses`` are names by id. Not ``shown``: ids in place of what is about a person, for logs."""
    prospect = change.prospect
    status, noted = prospect.context.get("statusId"), prospect.context.get("notes")
    known = f"prospect {prospect.key}"
    values = {
        "name": (prospect.display_name or prospect.username or known) if shown else known,
        "handle": f"@{prospect.username.lstrip('@')}" if shown and prospect.username else "",
        "status": statuses.get(status, status) if isinstance(status, str) else "",
        "valuation": _number(prospect.context.get("valuation")) if shown else "",
        "link": link(prospect.profile_url) if shown else "",
        "notes": noted if notes and shown and isinstance(noted, str) else "",
        "owner": name_of(change.assignee_id, "nobody"),
        "previous": name_of(change.previous_assignee_id, "nobody" if change.previous_known else "somebody"),
        "key": prospect.key,
        "platform": prospect.platform or "",
        "team": change.team_id,
    }
    # An id that has no name says nothing to those who read of it, unless the text asks for it.
    named = values["status"] if status in statuses else ""
    details = [text for text in (values["handle"], named, values["valuation"]) if text]
    values["details"] = f" ({', '.join(details)})" if details else ""
    return values


def one_line(text: str, longest: int = 200) -> str:
    """``text`` without line ends, controls and what turns the direction of writing, trimmed to ``longest``."""
    line = " ".join(_UNSEEN.sub(" ", text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def link(text: str | None) -> str:
    """``text`` if it is a plain web address, else nothing."""
    return text if text and re.fullmatch(r"https?://[\w.~%/?#=&:+,;@!$-]{1,500}", text) else ""


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value.is_integer() else f"{value:,.2f}"
