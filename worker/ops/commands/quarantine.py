"""``handoff quarantine``: signed deliveries that could not be used."""

from __future__ import annotations

import click

from worker.ops import list_options


@click.group()
def command() -> None:
    """See signed deliveries that could not be understood."""


@command.command("list")
@click.option("--reason", help="Only this reason's, for instance not_json or too_old.")
@list_options.options
@click.option(
    "--json", "as_json", is_flag=True, help="Print {total, more, quarantine: [...]}; times are ms since 1970."
)
def list_command(  # noqa: PLR0917 - click passes them by name
    reason: str | None,
    team: str | None,
    older_than: int | None,
    newer_than: int | None,
    oldest_first: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List quarantined deliveries, over all partitions, by when they were put there.

    Never shows a body. Exit code 0: listed, though there may be none; 2: the server can't be asked.
    """
    from worker.ops import listing, tables
    from worker.ops.installed import installed
    from worker.store.quarantine import list_quarantine

    with installed() as found:
        now = found.now()
        window = listing.window(now, older_than=older_than, newer_than=newer_than, oldest_first=oldest_first)
        page = list_quarantine(found.client, found.partitions, window, limit, team=team, reason=reason)
    if as_json:
        click.echo(tables.as_json(listing.quarantine_json(page)))
    else:
        tables.console().print(listing.quarantine_view(page, now))
