"""``handoff status``: is all well, and if not, what is wrong?"""

from __future__ import annotations

import click


@click.command()
@click.option("--watch", is_flag=True, help="Look again every second, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; times are milliseconds.")
def command(watch: bool, as_json: bool) -> None:
    """Show on one screen how deliveries and handlers are getting on.

    Of handlers: jobs waiting, and how long ago the oldest one's event came in; jobs ended, by how; lanes due now,
    waiting for another attempt, and running. Where there is very much, ages and lanes running are near, not exact.

    Exit code 0: nothing needs a person; 1: something does, and is said in words (dead letters, books that do not add
    up, no worker, nothing started yet); 2: the server can't be asked. With --watch: 0 when interrupted.
    """
    from worker.ops import status, status_view, tables
    from worker.ops.installed import installed

    if watch and as_json:
        raise click.UsageError("--watch is for people: it does not go with --json")
    with installed() as found:
        if watch:
            status_view.watch(found)
            return
        seen = status.gather(found)
    if as_json:
        click.echo(tables.as_json(seen.document()))
    else:
        tables.console().print(status_view.view(seen, found.settings.prefix))
    raise SystemExit(1 if seen.problems else 0)
