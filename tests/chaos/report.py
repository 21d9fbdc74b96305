"""Shows a run's verdict: each invariant, held or broken, and the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.chaos.history import Finding, History

SHOWN: Final = 5  # pieces of evidence in the table; all are in the folder


def table(findings: Sequence[Finding]) -> Table:
    shown = Table("", "invariant", "", "looked at, or what broke it", box=box.SIMPLE)
    for finding in findings:
        word = Text("HELD", style="green") if finding.held else Text("BROKEN", style="bold red")
        lines = [finding.checked, *finding.evidence[:SHOWN]]
        if len(finding.evidence) > SHOWN:
            lines.append(f"and {len(finding.evidence) - SHOWN} more")
        shown.add_row(str(finding.number), finding.name, word, Text("\n".join(lines)))
    return shown


def summary(history: History) -> str:
    """What went on, in one line."""
    answers = Counter(post.status for post in history.posts)
    faults = Counter(fault.kind for fault in history.faults)
    said = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(answers.items()))
    return (
        f"{len(history.posts)} posts ({said}); {len(history.calls)} calls; {sum(faults.values())} faults of "
        f"{len(faults)} kinds; {history.ended - history.began:.0f} s"
    )


def show(console: Console, findings: Sequence[Finding], history: History) -> None:
    console.print(table(findings))
    console.print(summary(history), highlight=False)


def write(folder: Path, findings: Sequence[Finding], history: History) -> None:
    """All of the evidence, and what it was judged by, as text files under ``folder``."""
    lines = [f"{f.number} {f.name} {'HELD' if f.held else 'BROKEN'} {f.checked}\n" for f in findings]
    for finding in findings:
        lines += [f"{finding.number} {finding.name}: {evidence}\n" for evidence in finding.evidence]
    (folder / "verdict.txt").write_text("".join(lines))
    (folder / "faults.txt").write_text("".join(f"{fault} {fault.pids}\n" for fault in history.faults))
    (folder / "calls.txt").write_text("".join(f"{c}\n" for c in sorted(history.calls, key=lambda c: c.start)))
    (folder / "posts.txt").write_text("".join(f"{post}\n" for post in history.posts))
