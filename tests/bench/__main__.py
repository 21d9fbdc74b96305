"""``make bench``: Handoff beside other ways of doing the same work, on this machine, each run checked.

Contenders take turns, round after round (A B C A B C), each time on a fresh embedded Valkey that shares the machine
with them. What counts are the ratios: the absolute figures are this machine's, and whatever else it is doing.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from tests.bench import report
from tests.bench.arena import Contender, measure
from tests.bench.contenders import CONTENDERS
from tests.bench.findings import Absence, Findings, machine, reason
from tests.bench.sections import Section
from tests.bench.sections.capacity import capacity
from tests.bench.sections.conflation import conflation
from tests.bench.sections.durability import durability
from tests.bench.sections.fairness import fairness
from tests.bench.sections.front_door import front_door
from tests.bench.sections.http import whole_road
from tests.bench.sections.latency import idle_latency, latency_steps
from tests.bench.sections.memory import memory
from tests.bench.sections.processes import process_memory
from tests.bench.sections.scale import scale
from tests.bench.workload import Workload

SECTIONS: dict[str, Callable[[Workload, int], Section]] = {
    "front-door": lambda workload, posts: front_door(workload),
    "whole-road": lambda workload, posts: whole_road(workload),
    "latency": lambda workload, posts: idle_latency(workload.seed, posts),
    "latency-steps": lambda workload, posts: latency_steps(workload.seed, posts),
    "memory": lambda workload, posts: memory(workload),
    "process-memory": lambda workload, posts: process_memory(workload),
    "conflation": lambda workload, posts: conflation(workload.seed),
    "fairness": lambda workload, posts: fairness(),
    "durability": lambda workload, posts: durability(workload),
    "scale": lambda workload, posts: scale(workload),
    "capacity": lambda workload, posts: capacity(workload),
}
NAMES = [*(contender.name for contender in CONTENDERS), *SECTIONS]


@click.command(help=__doc__.partition("\n")[0])
@click.option(
    "--events", default=20_000, show_default=True, type=click.IntRange(1), help="Distinct events of the work."
)
@click.option(
    "--rounds",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Times that each contender and each front door runs.",
)
@click.option("--posts", default=300, show_default=True, type=click.IntRange(3), help="Posts that latency is taken of.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Only this; may be given again.")
@click.option("--seed", default=1, show_default=True, help="What the work is made from.")
@click.option(
    "--most", default=1_000_000, show_default=True, type=click.IntRange(1000), help="Most teams and events that wait."
)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure here, too.")
@click.option(
    "--out", default="bench", show_default=True, type=click.Path(file_okay=False, path_type=Path), help="For pictures."
)
def main(
    events: int, rounds: int, posts: int, only: tuple[str, ...], seed: int, most: int, file: Path | None, out: Path
) -> None:
    signal.signal(signal.SIGTERM, _end)
    report.prepare(out, file)
    console, progress = report.make_console(), Console(stderr=True, highlight=False, markup=False)
    console.print(f"seed {seed}, {events} events, {rounds} round{'s' if rounds > 1 else ''}")
    found, here = Findings({"seed": seed, "events": events, "rounds": rounds, "posts": posts}), machine()

    def keep() -> list[Path]:
        return report.write(out, found.document(here), *([file] if file else []))

    workload = Workload.w1(seed, events)
    chosen = [contender for contender in CONTENDERS if not only or contender.name in only]
    told: dict[str, Callable[[Workload, int], Section]] = {
        "front-door": lambda workload, posts: front_door(workload, rounds),
        "scale": lambda workload, posts: scale(workload, most),
    }
    try:
        _run_rounds(chosen, workload, rounds, found, progress)
        if chosen:
            report.show(console, chosen, found.runs, found.absent)
        for name, section in (SECTIONS | told).items():
            if not only or name in only:
                keep()
                progress.print(name)
                try:
                    found.sections.append(section(workload, posts))
                except (
                    Exception
                ) as error:  # as with contenders: one section's trouble must not cost the others' figures
                    found.failed[name] = reason(error)
                    console.print(f"{name}\n  not measured: {found.failed[name]}\n")
                else:
                    report.show_section(console, found.sections[-1])
    finally:
        for written in keep():
            console.print(f"written: {written}")
    for written in report.write_pictures(out, found.sections):
        console.print(f"written: {written}")
    if faults := found.faults():
        console.print("Not as it should be:", *faults, sep="\n  ")
        sys.exit(1)


def _run_rounds(chosen: list[Contender], workload: Workload, rounds: int, found: Findings, progress: Console) -> None:
    """Add every run that comes to an end to what is ``found``, and why the others did not."""
    able: list[Contender] = []
    for contender in chosen:
        if (why := contender.why_not()) is None:
            able.append(contender)
        else:
            found.absent.append(Absence(contender.name, why))
    for number in range(1, rounds + 1):
        for contender in able:
            try:
                run = measure(contender, workload, number)
            except Exception as error:  # one contender's trouble must not cost the others' figures
                found.absent.append(Absence(contender.name, reason(error), number))
                progress.print(f"round {number}, {contender.name}: {found.absent[-1].reason}")
                continue
            found.runs.append(run)
            progress.print(f"round {number}, {contender.name}: {run.rate:,.0f} events/s, {run.verdict}")


def _end(number: int, _frame: object) -> NoReturn:
    """As Ctrl-C does: what is open is closed on the way out, workers and servers with it. Once: that takes a moment."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
