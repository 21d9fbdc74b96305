"""The handlers that workers announced (``HandlerSpec.describe``), with the jobs that the ledgers say are waiting."""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table

from worker.core.handlers import HandlerSpec
from worker.ops import tables
from worker.ops.installed import Installed
from worker.store import ledger
from worker.store.installation import known_handlers

_MARK: Final = "*"
_COLUMNS: Final = ("on", "queue", "attempts", "timeout", "concurrency", "rate")
_DEFAULTS: Final = {
    name: default
    for name, default in HandlerSpec("", print).describe().items()
    if name not in {*_COLUMNS, "name", "function", "async", "overridden"}
}


def rows(found: Installed) -> list[dict[str, Any]]:
    """One object a handler, by name: what was announced, ``announced`` and ``waiting``. Raises ``StoreUnavailable``."""
    announced = known_handlers(found.client, found.settings)
    ledgers = ledger.read_ledgers(found.client, found.partitions)
    return [
        {"name": name, "announced": name in announced}
        | announced.get(name, {})
        | {"waiting": sum(ledger.waiting_jobs(counts, name) for counts in ledgers)}
        for name in sorted(set(announced) | ledger.handlers_in(ledgers))
    ]


def view(table: list[dict[str, Any]]) -> Table:
    numbers = ["attempts", "timeout", "concurrency", "waiting"]
    shown = tables.table("handler", "on", "queue", *numbers[:3], "rate", "other options", "waiting", numbers=numbers)
    for row in table:
        known = tables.cell(row["name"] if row["announced"] else f"{row['name']} (not announced)", "cyan")
        words = [_told(row, name) for name in _COLUMNS]
        shown.add_row(known, *map(tables.cell, [*words, _others(row), row["waiting"]]))
    if any(row.get("overridden") for row in table):
        shown.caption = f"{_MARK} from the environment: HANDOFF_HANDLER_<NAME>_<OPTION>"
        shown.caption_justify = "left"
    return shown


def _told(row: dict[str, Any], name: str) -> object:
    """An option's value in words, marked where the environment set it; None where there is none to tell."""
    value = row.get(name)
    marked = name in row.get("overridden", ()) or (name == "attempts" and "retries" in row.get("overridden", ()))
    if isinstance(value, int) and not isinstance(value, bool) and not marked:
        return value
    match name, value:
        case _, None if not marked:
            return None
        case "timeout" | "batch_wait", float():
            text = f"{value:g} s"
        case "backoff", {"base": base, "cap": cap}:
            text = f"{base:g}/{cap:g} s"
        case _, list():
            text = ", ".join(map(str, value))
        case _, None:
            text = "none"
        case _:
            text = str(value)
    return text + _MARK * marked


def _others(row: dict[str, Any]) -> str | None:
    """The options without a column of their own that are not what they are by default, or that the environment set."""
    told = [
        name if row[name] is True else f"{name}={_told(row, name) or 'none'}"
        for name, default in _DEFAULTS.items()
        if name in row and (row[name] != default or name in row.get("overridden", ()))
    ]
    return " ".join(told) or None
