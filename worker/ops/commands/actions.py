"""``handoff actions``: who did what to this installation."""

from __future__ import annotations

import click


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array; times are ms since 1970.")
def command(limit: int, as_json: bool) -> None:
    """List what people did with commands that change something, newest first: when, who, what, to how many.

    The newest 10,000 are kept. Exit code 0: listed, though there may be none; 2: the server can't be asked.
    """
    from worker.ops import action_list, tables
    from worker.ops.installed import installed
    from worker.store import actions

    with installed() as found:
        done = actions.recent(found.client, found.settings.prefix, limit)
    if as_json:
        click.echo(tables.as_json(action_list.document(done)))
    else:
        tables.console().print(action_list.view(done))
