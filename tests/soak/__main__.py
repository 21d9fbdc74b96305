"""``make soak``: keep an installation at work for an hour, with faults now and then, and say what grew."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.servers import KINDS
from tests.soak import plan, report
from tests.soak.running import run


@click.command(help=__doc__.partition("\n")[0])
@click.option("--seed", type=int, help="What the load and the faults are made from.  [default: drawn, and shown]")
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0.5), help="Of load.")
@click.option("--rate", default=60.0, show_default=True, type=click.FloatRange(1), help="Events a second.")
@click.option("--server", default="valkey", show_default=True, type=click.Choice(KINDS), help="The state server.")
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON.")
def main(seed: int | None, minutes: float, rate: float, server: str, as_json: bool) -> None:
    seed = secrets.randbelow(2**31) if seed is None else seed
    console = Console(width=None if sys.stdout.isatty() else 160, stderr=as_json)
    console.print(f"seed {seed}", highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="handoff-soak-"))
    wanted = plan.make(seed, seconds=minutes * 60, rate=rate, server=server)
    outcome = run(wanted, folder, lambda line: console.print(line, highlight=False, markup=False))
    report.show(console, outcome)
    if as_json:
        click.echo(json.dumps(report.document(outcome), indent=2))
    if outcome.held:
        for path in folder.iterdir():
            if path != outcome.samples:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        console.print("Nothing grew, and all invariants held.")
        return
    console.print(f"Logs, samples and records are in {folder}. To run it again:", highlight=False)
    console.print(f"  make soak SEED={seed} MINUTES={minutes:g} RATE={rate:g} SERVER={server}", highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
