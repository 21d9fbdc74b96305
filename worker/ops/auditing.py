"""Checks the invariants of conservation (one line each) in every partition.

Each partition is counted in one atomic script, so its counts are of one instant and its books must balance whatever
traffic there is: drift is never "just timing". No sum spans partitions, so their being counted one after the other
makes no difference. What this proves is that nothing was lost or doubled between the inbox and the handlers'
outcomes. It does not prove that the order was right, that a handler did what it said, that the server kept everything
it confirmed (one that forgot its last second forgot the counters of that second, too), or anything where two errors
cancel out.

A count that would hold the server up is taken from the ledger instead, and the check is marked so: it then compares
less (worker/store/ledger.py says what). ``deep`` counts everything: unread deliveries in many short steps, lanes in
one long one, about 3 ms per 1,000 lanes of a partition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from worker.ops import tables
from worker.ops.installed import Installed
from worker.store import ledger
from worker.store.installation import known_handlers
from worker.store.ledger import Bounds, PartitionBooks

BOUNDS: Final = Bounds(entries=2000, size=8 * 1024 * 1024, keys=8000)
"""About 40 ms for a partition with so much of everything, half of it for lanes; 60 ms with bodies of a megabyte."""
DEEP: Final = Bounds(entries=BOUNDS.entries, size=BOUNDS.size)

_SUMS: Final = {
    "deliveries": "accepted = duplicates + quarantined + proofs + released + held + unread",
    "bodies": "in the stream = stored + held + unread",
    "jobs": "routed = done + discarded + conflated + dead + waiting",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One sum in one partition. ``drift``: so many are missing (positive) or too many (negative).

    ``from_ledger`` names the numbers that were not counted.
    """

    what: str
    handler: str | None
    partition: int
    drift: int
    numbers: dict[str, int]
    from_ledger: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.what} of {self.handler}" if self.handler is not None else self.what


def handler_names(found: Installed) -> list[str]:
    """The handlers that workers announced, and any other that was ever given a job."""
    used = ledger.handlers_in(ledger.read_ledgers(found.client, found.partitions))
    return sorted(used | set(known_handlers(found.client, found.settings)))


def audit(found: Installed, *, deep: bool) -> list[Check]:
    """Every check of every partition. Raises ``StoreUnavailable``."""
    names = handler_names(found)
    checks: list[Check] = []
    for keys in found.partitions:
        books = ledger.take(found.scripts, keys, names, DEEP if deep else BOUNDS)
        if deep and not books.unread_counted:
            books = ledger.count_unread(found.scripts, keys, books)
        checks += checks_of(books)
    return checks


def checks_of(books: PartitionBooks) -> list[Check]:
    """The books of one partition, as checks."""
    count = books.ledger.get
    uncounted = tuple(
        name for name, counted in (("held", books.held_counted), ("unread", books.unread_counted)) if not counted
    )
    both = {"held": books.held, "unread": books.unread}
    ended = {name: count(name, 0) for name in ("duplicates", "quarantined", "proofs", "released")}
    checks = [
        Check("deliveries", None, books.partition, books.drift, {"accepted": books.accepted} | ended | both, uncounted),
        Check(
            "bodies",
            None,
            books.partition,
            books.stream_drift,
            {"in the stream": books.in_stream, "stored": count("stored", 0)} | both,
            uncounted,
        ),
    ]
    for name, book in books.handlers.items():
        numbers = {key: getattr(book, key) for key in ("routed", "done", "discarded", "conflated", "dead", "waiting")}
        checks.append(Check("jobs", name, books.partition, book.drift, numbers, () if book.counted else ("waiting",)))
    return checks


def document(found: Installed, checks: list[Check]) -> dict[str, Any]:
    """The audit as JSON has it."""
    return {
        "clean": not any(check.drift for check in checks),
        "partitions": len(found.partitions),
        "checks": [
            {
                "check": check.what,
                "handler": check.handler,
                "partition": check.partition,
                "drift": check.drift,
                "numbers": check.numbers,
                "from_ledger": list(check.from_ledger),
            }
            for check in checks
        ],
    }


def view(found: Installed, checks: list[Check]) -> Group:
    """A line per check over all partitions, then the numbers of those that do not add up."""
    lines = tables.table("check", "sum", "first number", "result", numbers=["first number"])
    wrong: list[Text] = []
    for name in dict.fromkeys(check.name for check in checks):
        same = [check for check in checks if check.name == name]
        bad = [check for check in same if check.drift]
        total = sum(next(iter(check.numbers.values())) for check in same)
        lines.add_row(tables.cell(name), _SUMS[same[0].what], tables.cell(total), _result(same, bad))
        wrong += [_numbers(check) for check in bad]
    if not checks:
        return Group(
            Text(f"Nothing has started here yet under the prefix {found.settings.prefix!r}: nothing to check.")
        )
    return Group(lines, *([Text(""), *wrong] if wrong else []), Text(""), _verdict(found, checks))


def _result(same: list[Check], bad: list[Check]) -> Text:
    if bad:
        where = "partition" if len(bad) == 1 else "partitions"
        return Text(f"DRIFT in {where} {_list(check.partition for check in bad)}", style="bold red")
    partly = {name for check in same for name in check.from_ledger}
    if partly:
        return Text(f"adds up ({' and '.join(sorted(partly))} from the ledger)", style="yellow")
    return Text("adds up", style="green")


def _numbers(check: Check) -> Text:
    what = f"{abs(check.drift):,} {'missing' if check.drift > 0 else 'too many'}"
    first, *rest = (f"{name} {number:,}" for name, number in check.numbers.items())
    return tables.cell(f"partition {check.partition}, {check.name}: {what}: {first} | {', '.join(rest)}", "red")


def _verdict(found: Installed, checks: list[Check]) -> Text:
    bad = len({check.partition for check in checks if check.drift})
    over = tables.plural(len(found.partitions), "partition")
    if bad:
        return Text(f"The books of {bad} of {over} do not add up.", style="bold red")
    if any(check.from_ledger for check in checks):
        return Text(f"The books of {over} add up as far as they were counted; --deep counts the rest.", style="yellow")
    return Text(f"The books of {over} add up.", style="green")


def _list(numbers: Iterable[int]) -> str:
    every = list(numbers)
    return ", ".join(map(str, every[:10])) + (f" and {len(every) - 10} more" if len(every) > 10 else "")
