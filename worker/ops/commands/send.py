"""``handoff send``: sign events and post them, from files or made up."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime

import click

FEW = 20
"""Up to so many posts each get a line of their own; more are counted in a table."""


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--sample", is_flag=True, help="Send made-up events: a story of five posts, or --count of them.")
@click.option("--count", type=click.IntRange(1, 10_000_000), help="With --sample: how many distinct events.")
@click.option("--teams", type=click.IntRange(1), help="With --count: of how many teams (default: count / 40).")
@click.option("--duplicates", type=click.FloatRange(0, 1), default=0.0, help="With --count: share delivered twice.")
@click.option("--gaps", type=click.FloatRange(0, 1), default=0.0, help="With --count: share after a gap in seq.")
@click.option(
    "--shuffle", type=click.IntRange(0), default=0, help="With --count: arrivals displaced by up to N places."
)
@click.option("--seed", type=int, help="With --sample: the same seed makes the same ids and numbers.")
@click.option(
    "--url", help="Where to post; without a path, /webhooks/inbox is added. Default: the address in HANDOFF_BIND."
)
@click.option("--team", help="Post to this team's own URL (version 2 events carry no team).")
@click.option(
    "--secret-env", metavar="NAME", help="The variable that holds the secret. Default: HANDOFF_WEBHOOK_SECRET."
)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=32, show_default=True, help="Posts at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print {sent, accepted, retries, seconds, per_second, answers}.")
def command(  # noqa: PLR0917 - click passes them by name
    files: tuple[str, ...],
    sample: bool,
    count: int | None,
    teams: int | None,
    duplicates: float,
    gaps: float,
    shuffle: int,
    seed: int | None,
    url: str | None,
    team: str | None,
    secret_env: str | None,
    concurrency: int,
    as_json: bool,
) -> None:
    """Sign events and post them to the ingress.

    A FILE holds one JSON event, an array of them, or one a line; - is standard input. Exit code 0: all were
    accepted, 1: some were not, 2: wrong usage, or nothing answers.
    """
    from worker.ops import event_files, posting, samples, sending
    from worker.ops.command_settings import command_settings

    if bool(files) == sample:
        raise click.UsageError("name at least one FILE, or - for standard input, or --sample (and not both)")
    if count is None and (teams or duplicates or gaps or shuffle):
        raise click.UsageError("--teams, --duplicates, --gaps and --shuffle go with --sample --count N")
    if sample and team:
        raise click.UsageError("samples carry teams of their own, so --team goes with files only")
    if count is not None and not sample:
        raise click.UsageError("--count goes with --sample")

    outgoing: list[sending.Outgoing]
    if count is not None:
        chosen = random.randrange(2**32) if seed is None else seed  # noqa: S311 - made-up events
        made = samples.stream(
            chosen,
            count,
            teams or max(1, count // 40),
            duplicates=duplicates,
            displacement=shuffle,
            gaps=gaps,
            started=datetime.now(UTC),
        )
        outgoing = [sending.Outgoing(delivery.body, f"seq {delivery.seq}") for delivery in made]
    elif sample:
        told = samples.story(seed)
        outgoing = [sending.Outgoing(delivery.body, sending.describe(delivery.body)) for delivery in told.deliveries]
        concurrency = 1  # a story is told in its order
    else:
        read = [event for name in files for event in event_files.read_file(name)]
        outgoing = [sending.Outgoing(event.body, event.where) for event in read]

    settings = command_settings()
    secret = None
    if secret_env is not None and not (secret := os.environ.get(secret_env, "").split(",")[0].strip()):
        raise click.UsageError(f"--secret-env: {secret_env} is not set")
    to = posting.target(settings, url=url, team=team, secret=secret)
    result = sending.send(outgoing, to, concurrency=concurrency, bar=len(outgoing) > FEW and not as_json)
    if as_json:
        click.echo(result.as_json())
    elif len(outgoing) <= FEW:
        click.echo("\n".join(result.lines()))
    else:
        result.show_table()
    raise SystemExit(0 if result.accepted_all else 1)
