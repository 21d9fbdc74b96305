"""The report: tables for people, and the same figures as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from tests.bench.arena import Contender, Run
from tests.bench.contenders import YARDSTICK
from tests.bench.findings import Absence
from tests.bench.pictures import draw
from tests.bench.sections import Section

RATE: Final = "events/s\n(least-most)"
CPU: Final = "CPU us/event\nworker + server"
WIDE: Final = 110  # columns, from which on a line has room for every figure
MEBI: Final = 1024 * 1024
LEAST_WIDTH: Final = 80  # columns; where there are less, the terminal folds the lines, and no figure is cut
FIGURES: Final = "figures.json"


def make_console() -> Console:
    """Of the terminal's width, or so that a file has a line a row; reasons and names are not taken for markup."""
    width = max(LEAST_WIDTH, Console().width) if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False, markup=False)


def show(console: Console, contenders: Sequence[Contender], runs: Sequence[Run], absent: Sequence[Absence]) -> None:
    """One line a contender: medians over its rounds, with the least and the most; below, why others did not run."""
    table = Table(title="W1, preloaded, to the last event handled", title_justify="left", box=None, pad_edge=False)
    wide = console.width >= WIDE
    table.add_column("contender", overflow="fold")
    headings = [RATE, "rate x", CPU, *(["CPU x"] if wide else []), "MiB", *(["commands"] if wide else [])]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("check", overflow="fold")
    yardstick = [run for run in runs if run.contender == YARDSTICK]
    for contender in contenders:
        own = [run for run in runs if run.contender == contender.name]
        if own:
            figures = _figures(own, yardstick, " " if wide else "\n")
            table.add_row(contender.title, *(figures[heading] for heading in headings), _check(own))
    console.print(table)
    cpu = f" CPU x: this one's over {YARDSTICK}'s; it hardly depends on what else the machine does."
    commands = " Commands: an event, those inside scripts included."
    console.print(
        f"rate x: {YARDSTICK}'s over this one's.{cpu if wide else ''} MiB: the most, workers + server."
        f"{commands if wide else ''}\n"
    )
    for contender in contenders:
        console.print(f"{contender.title}: {contender.note}")
        for one in absent:
            if one.contender == contender.name:
                console.print(f"  {f'round {one.round} failed' if one.round else 'not run'}: {one.reason}")
    console.print()


def show_section(console: Console, section: Section) -> None:
    table = Table(title=section.title, title_justify="left", box=None, pad_edge=False)
    table.add_column("what", overflow="fold")
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for what, figure, unit in section.rows:
        table.add_row(
            what, f"{figure:,.0f}" if abs(figure) >= 100 or isinstance(figure, int) else f"{figure:.2f}", unit
        )
    console.print(table)
    console.print(f"  {section.note}\n")


def prepare(folder: Path, file: Path | None = None) -> None:
    """Make ``folder``. Raises ``click.BadParameter`` where the figures could not be written there or to ``file``: hours
    of measuring would be lost to that."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder / FIGURES)
    except OSError as error:
        raise click.BadParameter(f"can't write to {folder}: {error.strerror}", param_hint="--out") from None
    try:
        if file is not None:
            _try_to_write(file)
    except OSError as error:
        raise click.BadParameter(f"can't write {file}: {error.strerror}", param_hint="--json") from None


def write(folder: Path, figures: Mapping[str, Any], *files: Path) -> list[Path]:
    """The figures as JSON in ``folder`` and in each of ``files``; what was written."""
    files = (folder / FIGURES, *files)
    for file in files:
        file.write_text(json.dumps(figures, indent=2) + "\n")
    return [*files]


def write_pictures(folder: Path, sections: Sequence[Section]) -> list[Path]:
    series = {name: points for section in sections for name, points in section.series.items()}
    return draw(folder, series) if series else []


def _try_to_write(file: Path) -> None:
    if file.exists():
        file.open("a").close()  # nothing of an earlier run is lost, should this one not come to its first figures
    else:
        tempfile.TemporaryFile(dir=file.parent).close()


def _figures(own: Sequence[Run], yardstick: Sequence[Run], between: str) -> dict[str, str]:
    """By heading. ``between`` is what stands between the rate and its range."""

    def mid(figure: Callable[[Run], float], of: Sequence[Run] = own) -> float:
        return median(figure(run) for run in of)

    def cost(run: Run) -> float:
        return run.worker_cpu + run.server_cpu

    rates = [run.rate for run in own]
    spread = f"{between}({min(rates):,.0f}-{max(rates):,.0f})" if len(rates) > 1 else ""
    return {
        RATE: f"{median(rates):,.0f}{spread}",
        "rate x": f"{mid(lambda run: run.rate, yardstick) / median(rates):.2f}" if yardstick else "",
        CPU: f"{mid(lambda run: run.worker_cpu):,.0f} + {mid(lambda run: run.server_cpu):,.0f}",
        "CPU x": f"{mid(cost) / mid(cost, yardstick):.2f}" if yardstick and mid(cost, yardstick) else "",
        "MiB": f"{mid(lambda run: run.worker_rss) / MEBI:.0f} + {mid(lambda run: run.server_rss) / MEBI:.0f}",
        "commands": f"{mid(lambda run: run.commands):.1f}",
    }


def _check(own: Sequence[Run]) -> str:
    """The worst of the rounds' verdicts, in words."""
    unfinished = sum(not run.finished for run in own)
    verdicts = [run.verdict for run in own if run.verdict is not None]
    worst = max(verdicts, key=lambda v: (not v.exactly_once, v.missing + v.repeated, v.disordered), default=None)
    said = "not checked: leaves no trace" if worst is None else str(worst)
    return f"{unfinished} not finished; {said}" if unfinished else said
