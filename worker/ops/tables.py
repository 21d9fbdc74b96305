"""How the reading commands print: plain tables, ages and sizes in words, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.core.units import size

__all__ = ["WIDE", "age", "as_json", "cell", "console", "moment", "plural", "size", "table"]

WIDE: Final = 200  # columns where there is no terminal to fit into, so that nothing is cut for grep

_AGES: Final = ((86400_000, "d"), (3600_000, "h"), (60_000, "m"), (1000, "s"))


def console() -> Console:
    """For standard output; as wide as the terminal, if it is one."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table without lines; the ``numbers`` among the columns are aligned to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    return made


def cell(value: object, style: str = "") -> Text:
    """A value as text. Ids and names come from elsewhere: what is not printable would be obeyed by the terminal."""
    if value is None:
        return Text("-", style="dim")
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return Text("".join(letter if letter.isprintable() else "\ufffd" for letter in text), style=style)


def age(ms: int | None) -> str | None:
    """``90_000`` as ``1m30s``, with the two largest units; None stays None."""
    if ms is None:
        return None
    if ms < 1000:
        return f"{ms}ms"
    for at, (length, unit) in enumerate(_AGES):
        if ms >= length:
            whole, rest = divmod(ms, length)
            below = _AGES[at + 1] if at + 1 < len(_AGES) else None
            less = rest // below[0] if below else 0
            return f"{whole}{unit}" + (f"{less}{below[1]}" if below and less else "")
    return "0s"


def moment(ms: int) -> str:
    """Server ms as UTC, to the second; 0 is a time that nobody knows."""
    if not ms:
        return "unknown"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def as_json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
