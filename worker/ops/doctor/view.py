"""The findings for people: what needs something done first, with its remedy; then what is well, a line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from worker.ops import tables
from worker.ops.doctor.findings import WORST_FIRST, Finding, Level

_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.UNSAFE: "bold red", Level.UNKNOWN: "bold red"}


def view(findings: Sequence[Finding]) -> RenderableType:
    shown = tables.table("", "check", "where", "found")
    for level in WORST_FIRST:
        for finding in findings:
            if finding.level is level:
                words = tables.cell(finding.what)
                for label, text in (("so: ", finding.why), ("do: ", finding.remedy)):
                    if text:
                        words.append(f"\n{label}", style="dim").append(tables.cell(text))
                mark = Text(level.value, style=_STYLES[level])
                shown.add_row(mark, tables.cell(finding.check, "cyan"), tables.cell(finding.where), words)
    return Group(shown, Text(""), _verdict(findings))


def _verdict(findings: Sequence[Finding]) -> Text:
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    if counts[Level.UNKNOWN]:
        return Text("Not everything could be asked.", style=_STYLES[Level.UNKNOWN])
    if counts[Level.UNSAFE]:
        things = tables.plural(counts[Level.UNSAFE], "thing is", "things are")
        return Text(f"{things} unsafe.", style=_STYLES[Level.UNSAFE])
    warned = f" ({tables.plural(counts[Level.WARN], 'warning')})" if counts[Level.WARN] else ""
    return Text(f"Nothing is unsafe{warned}.", style=_STYLES[Level.OK])
