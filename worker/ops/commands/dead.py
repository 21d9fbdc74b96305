"""``handoff dead``: jobs that were given up and wait for a person."""

from __future__ import annotations

import click

from worker.ops import list_options


@click.group()
def command() -> None:
    """See what became of jobs that were given up."""


@command.command("list")
@click.option("--handler", help="Only this handler's.")
@click.option("--error", help="Only those that ended with this class of error, with or without its module.")
@click.option("--show-text", is_flag=True, help="The errors' texts, too. They may hold personal data.")
@list_options.options
@click.option("--json", "as_json", is_flag=True, help="Print {total, more, dead: [...]}; times are ms since 1970.")
def list_command(  # noqa: PLR0917 - click passes them by name
    handler: str | None,
    error: str | None,
    show_text: bool,
    team: str | None,
    older_than: int | None,
    newer_than: int | None,
    oldest_first: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List dead letters, over all partitions, by when they were given up.

    Never shows an event's body. Exit code 0: listed, though there may be none; 2: the server can't be asked.
    """
    from worker.ops import listing, tables
    from worker.ops.installed import installed
    from worker.store.dead import DeadFilter, list_dead

    with installed() as found:
        now = found.now()
        window = listing.window(now, older_than=older_than, newer_than=newer_than, oldest_first=oldest_first)
        page = list_dead(found.client, found.partitions, DeadFilter(handler, team, error), window, limit)
    if as_json:
        click.echo(tables.as_json(listing.dead_json(page, text=show_text)))
    else:
        tables.console().print(listing.dead_view(page, now, text=show_text))
