"""The lists of dead letters and of quarantined deliveries, as tables and as JSON. No bodies, and no texts unasked."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from worker.ops import tables
from worker.store.dead import DeadLetter
from worker.store.pages import Page, Window, address
from worker.store.quarantine import Quarantined

LONGEST_ID: Final = 64  # characters; the provider's ids have 24


def window(now: int, *, older_than: int | None, newer_than: int | None, oldest_first: bool) -> Window:
    """Ages (ms) as the times that they mean at ``now``."""
    return Window(
        since=None if newer_than is None else now - newer_than,
        until=None if older_than is None else now - older_than,
        newest_first=not oldest_first,
    )


def dead_json(page: Page[DeadLetter], *, text: bool) -> dict[str, Any]:
    def one(letter: DeadLetter) -> dict[str, Any]:
        return {
            "id": address(letter),
            "at": letter.at,
            "handler": letter.handler,
            "team": letter.team,
            "lane": letter.lane,
            "event_id": letter.event_id,
            "type": letter.type,
            "seq": letter.seq,
            "late": letter.late,
            "attempts": letter.attempts,
            "error": letter.error,
            "size": letter.size,
            "arrived": letter.arrived,
        } | ({"text": letter.text} if text else {})

    return {"total": page.total, "more": page.more, "dead": [one(letter) for letter in page.records]}


def quarantine_json(page: Page[Quarantined]) -> dict[str, Any]:
    def one(found: Quarantined) -> dict[str, Any]:
        return {
            "id": address(found),
            "at": found.at,
            "reason": found.reason,
            "detail": found.detail,
            "team": found.team,
            "event_id": found.event_id,
            "size": found.size,
            "arrived": found.arrived,
        }

    return {"total": page.total, "more": page.more, "quarantine": [one(found) for found in page.records]}


def dead_view(page: Page[DeadLetter], now: int, *, text: bool) -> RenderableType:
    columns = ["id", "age", "handler", "team", "seq", "event", "tries", "error", "body"]
    shown = tables.table(*columns, *(["text"] if text else []), numbers=["age", "seq", "tries", "body"])
    for letter in page.records:
        words = [
            address(letter),
            tables.age(max(0, now - letter.at)),
            letter.handler,
            _short(letter.team),
            str(letter.seq),
        ]
        words += [_short(letter.event_id), str(letter.attempts), letter.error, tables.size(letter.size)]
        shown.add_row(*map(tables.cell, words + ([letter.text] if text else [])))
    return _with_foot(shown, page, "dead letter")


def quarantine_view(page: Page[Quarantined], now: int) -> RenderableType:
    columns = ["id", "age", "reason", "team", "event", "body", "detail"]
    shown = tables.table(*columns, numbers=["age", "body"])
    for found in page.records:
        words = [address(found), tables.age(max(0, now - found.at)), found.reason]
        words += [_short(found.team), _short(found.event_id)]
        shown.add_row(*map(tables.cell, [*words, tables.size(found.size), found.detail]))
    return _with_foot(shown, page, "quarantined delivery", "quarantined deliveries")


def _short(name: str | None) -> str | None:
    """An id as a column can show it: one in the quarantine may have a megabyte. The JSON has all of it."""
    return name if name is None or len(name) <= LONGEST_ID else f"{name[: LONGEST_ID - 1]}…"


def _with_foot(shown: RenderableType, page: Page[Any], one: str, many: str | None = None) -> RenderableType:
    whole = tables.plural(page.total, one, many)
    if not page.records:
        return Text(f"None of {whole} matches." if page.total else f"No {many or one + 's'}.")
    more = "; there are more that match: raise --limit" if page.more else ""
    return Group(shown, Text(""), Text(f"{len(page.records):,} of {whole}{more}", style="dim"))
