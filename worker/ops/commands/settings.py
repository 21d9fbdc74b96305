"""``handoff settings``: every setting, what it means and its default."""

from __future__ import annotations

import click


@click.command()
@click.argument("handler", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of {name, meaning, default}.")
@click.option("--markdown", is_flag=True, help="Print the table as it stands in README.md.")
def command(handler: str | None, as_json: bool, markdown: bool) -> None:
    """Show every setting with its meaning and default; with HANDLER those of a handler that comes with Handoff.

    Durations are written 250ms, 10s, 5m, 24h or 90d; a bare number is seconds.
    """
    from worker.ops import settings_table

    rows = settings_table.rows() if handler is None else settings_table.shipped_rows(handler)
    if not rows and not (as_json or markdown):
        click.echo(f"{handler} has no settings.")
    elif as_json:
        click.echo(settings_table.as_json(rows))
    elif markdown:
        click.echo(settings_table.as_markdown(rows))
    else:
        settings_table.show(rows)
