"""The handlers that workers announced (``HandlerSpec.describe``), with the jobs that the ledgers say are waiting."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from worker.ops import tables
from worker.ops.installed import Installed
from worker.store import ledger
from worker.store.installation import known_handlers


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
    shown = tables.table("handler", "on", "queue", *numbers[:3], "rate", "waiting", numbers=numbers)
    for row in table:
        on = row.get("on")
        words = [", ".join(on) if isinstance(on, list) else on, row.get("queue"), row.get("attempts")]
        words += [f"{row['timeout']:g} s" if "timeout" in row else None, row.get("concurrency"), row.get("rate")]
        known = tables.cell(row["name"] if row["announced"] else f"{row['name']} (not announced)", "cyan")
        shown.add_row(known, *map(tables.cell, [*words, row["waiting"]]))
    return shown
