"""Shows the verdict on a run: processes, key families, the ledger and the invariants, as tables or as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.chaos import report
from tests.soak.running import Outcome
from tests.soak.verdicts import MIB, Verdicts

SHOWN: Final = 20  # lines of evidence


def show(console: Console, outcome: Outcome) -> None:
    found = outcome.verdicts
    for table in (_processes(found), _families(found)):
        console.print(table)
    console.print(_words(outcome), highlight=False, markup=False)
    console.print(report.table(outcome.findings))
    lines = found.evidence
    for line in lines[:SHOWN]:
        console.print(line, highlight=False, markup=False)
    if len(lines) > SHOWN:
        console.print(f"and {len(lines) - SHOWN} more", highlight=False)
    console.print(f"Every sample is in {outcome.samples}", highlight=False, markup=False)


def document(outcome: Outcome) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "held": outcome.held,
        "seconds": round(outcome.seconds, 1),
        "posts": outcome.posts,
        "calls": outcome.calls,
        "faults": Counter(fault.kind for fault in outcome.faults),
        "samples": str(outcome.samples),
        **asdict(outcome.verdicts),
        "invariants": [{**asdict(finding), "held": finding.held} for finding in outcome.findings],
    }


def _processes(found: Verdicts) -> Table:
    shown = Table("process", *_right("runs", "judged", "first MiB", "last", "peak", "KiB/s", "finds KiB/s"), "")
    shown.box = box.SIMPLE
    for one in found.processes:
        sizes = [f"{size / MIB:.1f}" for size in (one.first, one.last, one.peak)]
        rates = [f"{one.slope / 1024:.2f}", f"{one.finds / 1024:.1f}"] if one.finds is not None else ["", ""]
        word = _word(not one.evidence, "flat") if one.judged else Text("too short", style="yellow")
        shown.add_row(one.kind, str(one.series), str(one.judged), *sizes, *rates, word)
    return shown


def _families(found: Verdicts) -> Table:
    shown = Table("keys", *_right("keys", "peak", "last", "KiB", "entries/s"), "bounded by", "")
    shown.box = box.SIMPLE
    for one in found.families:
        if not one.peak and not one.evidence:
            continue
        rate = "" if one.slope is None else f"{one.slope:.2f}"
        word = _word(not one.evidence, "bounded" if one.slope is not None else "no more")
        shown.add_row(
            Text(one.name),  # plain: of ":bell:" it would make a picture
            f"{one.keys:,}",
            f"{one.peak:,}",
            f"{one.last:,}",
            f"{one.size / 1024:.0f}",
            rate,
            one.by,
            word,
        )
    return shown


def _words(outcome: Outcome) -> str:
    found = outcome.verdicts
    lines = []
    if (one := found.server) is not None:
        slope = "" if one.slope is None else f", {one.slope / 1024:.2f} KiB/s"
        sizes = f"{one.first / MIB:.1f} to {one.last / MIB:.1f} MiB, at most {one.peak / MIB:.1f}{slope}"
        lines.append(f"The server's data: {sizes}; {one.clients} connections; {one.file / MIB:.0f} MiB of log")
    drift = f"drift in {len(found.ledger.evidence)} places" if found.ledger.evidence else "no drift"
    lines.append(f"The ledger: {drift} in {found.ledger.looked} samples of every partition")
    kinds = Counter(fault.kind for fault in outcome.faults)
    lines.append(
        f"{found.ledger.released:,} events, {outcome.posts:,} posts, {outcome.calls:,} calls, {sum(kinds.values())} "
        f"faults of {len(kinds)} kinds; {outcome.seconds:.0f} s"
    )
    return "\n".join(lines)


def _right(*names: str) -> list[Any]:
    from rich.table import Column

    return [Column(name, justify="right") for name in names]


def _word(well: bool, word: str) -> Text:
    return Text(word, style="green") if well else Text("GROWS", style="bold red")
