"""``make chaos``: break everything around Handoff for some minutes, and say which of its invariants held."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from tests.chaos import report, schedule, workload
from tests.chaos.cluster import Setup
from tests.chaos.other_code import REVISION
from tests.chaos.running import Plan, run
from tests.servers import KINDS


@click.command(help=__doc__.partition("\n")[0])
@click.option("--seed", type=int, help="What the load and the faults are made from.  [default: drawn, and shown]")
@click.option("--minutes", default=3.0, show_default=True, type=click.FloatRange(0.2), help="Of load and faults.")
@click.option("--rate", default=40.0, show_default=True, type=click.FloatRange(1), help="Events a second.")
@click.option("--server", default="valkey", show_default=True, type=click.Choice(KINDS), help="The state server.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Beside the slow handler's one.")
@click.option("--only", multiple=True, type=click.Choice(sorted(schedule.KINDS)), help="Only this kind of fault.")
@click.option("--other", help="A revision for git: the code that some workers run in the middle of an upgrade.")
@click.option("--keep", is_flag=True, help="Keep the logs and records of a run in which all held, too.")
def main(
    seed: int | None,
    minutes: float,
    rate: float,
    server: str,
    workers: int,
    only: tuple[str, ...],
    other: str | None,
    keep: bool,
) -> None:
    seed = secrets.randbelow(2**31) if seed is None else seed
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"seed {seed}", highlight=False)
    if other:
        os.environ[REVISION] = other
    setup = Setup(server=server, workers=workers)
    seconds = minutes * 60
    plan = Plan(
        seed=seed,
        workload=workload.make(seed, workload.Shape(seconds=seconds, rate=rate), started=datetime.now(UTC)),
        steps=schedule.make(
            seed,
            schedule.Rhythm(until=seconds),
            workers=workers + setup.slow_workers,
            ingresses=setup.ingresses,
            kinds=only or tuple(schedule.KINDS),
        ),
        setup=setup,
    )
    folder = Path(tempfile.mkdtemp(prefix="handoff-chaos-"))
    verdict = run(plan, folder, lambda line: console.print(line, highlight=False, markup=False))
    report.show(console, verdict.findings, verdict.history)
    if not verdict.broken:
        if keep:
            console.print(f"Logs and records are in {folder}", highlight=False)
        else:
            shutil.rmtree(folder)
        console.print("All invariants held.")
        return
    report.write(folder, verdict.findings, verdict.history)
    console.print(f"Logs, records and all evidence are in {folder}. To run it again:", highlight=False)
    console.print(f"  make chaos {_again(seed, minutes, rate, server, workers, only, other)}", highlight=False)
    sys.exit(1)


def _again(
    seed: int, minutes: float, rate: float, server: str, workers: int, only: tuple[str, ...], other: str | None
) -> str:
    words = [f"--rate {rate:g}", f"--workers {workers}", *(f"--only '{kind}'" for kind in only)]
    if other:
        words.append(f"--other {other}")
    return f'SEED={seed} MINUTES={minutes:g} SERVER={server} ARGS="{" ".join(words)}"'


if __name__ == "__main__":
    main()
