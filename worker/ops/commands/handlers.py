"""``handoff handlers``: what the workers said they have."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a handler.")
def command(as_json: bool) -> None:
    """List the handlers that workers announced, how they are set, and the jobs that wait for them.

    A handler that no worker announced, but that was given jobs, is listed without its settings. Exit code 0: listed,
    though there may be none; 2: the server can't be asked.
    """
    from worker.ops import handler_list, tables
    from worker.ops.installed import installed

    with installed() as found:
        rows = handler_list.rows(found)
    if as_json:
        click.echo(tables.as_json(rows))
    elif rows:
        tables.console().print(handler_list.view(rows))
    else:
        click.echo("No worker has announced a handler yet.")
