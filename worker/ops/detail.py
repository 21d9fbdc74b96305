"""One dead letter or one quarantined delivery with all that is kept of it. Texts and bodies only when asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.ops import tables
from worker.store.dead import OpenLetter
from worker.store.pages import address
from worker.store.quarantine import Quarantined


def letter_json(found: OpenLetter, *, text: bool, body: bool) -> dict[str, Any]:
    letter = found.letter
    change = letter.job.change
    attempts = [
        {"number": each.number, "at": each.at, "error": each.error} | ({"text": each.text} if text else {})
        for each in found.attempts
    ]
    document = {
        "id": address(letter),
        "event_id": letter.event_id,
        "type": letter.type,
        "team": letter.team,
        "seq": letter.seq,
        "handler": letter.handler,
        "lane": letter.lane,
        "kind": None if change is None else change.kind.value,
        "late": letter.late,
        "overtaken": found.overtaken,
        "arrived": letter.arrived,
        "at": letter.at,
        "attempts": letter.attempts,
        "error": letter.error,
        "failed": attempts,
        "size": letter.size,
        "body_kept": bool(found.body),
    }
    return document | ({"text": letter.text} if text else {}) | ({"body": _decoded(found.body)} if body else {})


def letter_view(found: OpenLetter, now: int, *, text: bool, body: bool) -> RenderableType:
    letter = found.letter
    document = letter_json(found, text=text, body=False)
    words = {name: document[name] for name in ("id", "event_id", "type", "team", "seq", "handler", "lane", "kind")}
    words |= {"late": "yes" if letter.late else "no"}
    words |= {"arrived": _when(letter.arrived, now), "given up": _when(letter.at, now)}
    words |= {"attempts": letter.attempts, "error": letter.error} | ({"text": letter.text} if text else {})
    words["body"] = tables.size(letter.size) if found.body else "lost: it can't be retried, only dropped"
    if found.overtaken:
        words["stale"] = "a newer change of the prospect went out with another owner: retry skips it without --force"
    parts: list[RenderableType] = [_grid(words)]
    if found.attempts:
        shown = tables.table("attempt", "at", "error", *(["text"] if text else []), numbers=["attempt"])
        for each in found.attempts:
            row = [each.number, tables.moment(each.at), each.error]
            shown.add_row(*map(tables.cell, row + ([each.text] if text else [])))
        parts += [Text(""), shown]
    return Group(*parts, *(_shown(found.body) if body else ()))


def quarantined_json(found: Quarantined, body: bytes | None) -> dict[str, Any]:
    document = {
        "id": address(found),
        "event_id": found.event_id,
        "team": found.team,
        "reason": found.reason,
        "detail": found.detail,
        "readable": not found.unreadable,
        "arrived": found.arrived,
        "at": found.at,
        "size": found.size,
    }
    return document if body is None else document | {"body": _decoded(body)}


def quarantined_view(found: Quarantined, now: int, body: bytes | None) -> RenderableType:
    words: dict[str, Any] = {"id": address(found), "event_id": found.event_id, "team": found.team}
    words |= {"reason": found.reason, "detail": found.detail}
    words |= {"arrived": _when(found.arrived, now), "quarantined": _when(found.at, now)}
    words["body"] = tables.size(found.size)
    if found.unreadable:
        words["retry"] = "would bring it back here: this version of Handoff can't read it"
    elif found.doubtful:
        words["retry"] = "needs --force, which says that it was never handled: its id is no longer remembered"
    return Group(_grid(words), *(_shown(body) if body is not None else ()))


def _grid(words: Mapping[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    for name, value in words.items():
        grid.add_row(tables.cell(name.replace("_", " "), "dim"), tables.cell(value))
    return grid


def _when(ms: int, now: int) -> str:
    return f"{tables.moment(ms)} ({tables.age(max(0, now - ms))} ago)"


def _decoded(body: bytes) -> str:
    return body.decode(errors="replace")


def _shown(body: bytes) -> list[RenderableType]:
    """The body, laid out where it is JSON; line by line, for a terminal would obey what is not printable."""
    try:
        laid_out = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        laid_out = _decoded(body)
    return [Text(""), *(tables.cell(line) for line in laid_out.splitlines())]
