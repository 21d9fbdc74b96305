"""The audit record of actions, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from worker.ops import tables
from worker.store.actions import Done


def document(found: Sequence[Done]) -> list[dict[str, Any]]:
    return [asdict(done) for done in found]


def view(found: Sequence[Done]) -> RenderableType:
    if not found:
        return Text("Nobody has changed anything yet.")
    shown = tables.table("when", "who", "what", "with", "count", numbers=["count"])
    for done in found:
        args = " ".join(f"{name}={_short(value)}" for name, value in done.args.items() if value not in (None, False))
        shown.add_row(*map(tables.cell, [tables.moment(done.at), done.who, done.what, args, done.count]))
    return shown


def _short(value: object) -> str:
    if isinstance(value, dict):  # how the things ended, by what became of them
        text = ",".join(f"{name}:{count}" for name, count in value.items())
    else:
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
