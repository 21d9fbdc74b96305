"""``handoff explain``: what became of one event, and why."""

from __future__ import annotations

import click


@click.command()
@click.argument("event_id")
@click.option("--team", help="Look only at this team's; quicker where the event is not in the archive any more.")
@click.option("--show-text", is_flag=True, help="The errors' texts, too. They may hold personal data.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print {event_id, found, whole, events}; times are ms since 1970."
)
def command(event_id: str, team: str | None, show_text: bool, as_json: bool) -> None:
    """Tell the life of one event: received, duplicates, held for what, released, and what each handler made of it.

    Knows of everything that still waits, is held, dead or quarantined, and of what has ended for as long as the archive
    keeps it (HANDOFF_ARCHIVE_EVENTS). Exit code 0: found; 1: nothing is known of it; 2: the server can't be asked.
    """
    from worker.ops import explain_view, explaining, tables
    from worker.ops.installed import installed

    with installed() as found:
        explanation = explaining.explain(found, event_id, team)
    if as_json:
        click.echo(tables.as_json(explaining.document(explanation, text=show_text)))
    else:
        tables.console().print(explain_view.view(explanation, text=show_text))
    raise SystemExit(0 if explanation.stories else 1)
