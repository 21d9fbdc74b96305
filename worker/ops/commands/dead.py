"""``handoff dead``: jobs that were given up and wait for a person."""

from __future__ import annotations

import click

from worker.ops import choosing, list_options


@click.group()
def command() -> None:
    """See jobs that were given up, retry them, or drop them."""


handler_option = click.option("--handler", help="Only this handler's.")
error_option = click.option(
    "--error", help="Only those that ended with this class of error, with or without its module."
)
team_option = click.option("--team", help="Only this team's.")


@command.command("list")
@handler_option
@error_option
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


@command.command("show")
@click.argument("place", type=choosing.PlaceType(), metavar="ID")
@click.option("--show-text", is_flag=True, help="The errors' texts, too. They may hold personal data.")
@click.option("--show-body", is_flag=True, help="The event's body, too. It holds personal data.")
@click.option("--json", "as_json", is_flag=True, help="Print one object; times are ms since 1970.")
def show_command(place: tuple[int, str], show_text: bool, show_body: bool, as_json: bool) -> None:
    """Show one dead letter: its event, its times, each attempt, and whether it is stale by now.

    ID is what `handoff dead list` prints. Exit code 0: shown; 1: there is none of this id (any more); 2: the server
    can't be asked.
    """
    from worker.ops import dead_actions, detail, tables
    from worker.ops.installed import installed
    from worker.store.dead import open_letter

    with installed() as found:
        now = found.now()
        letter = open_letter(found.client, found.partitions, place, dead_actions.take_events(found))
    if letter is None:
        click.echo("There is no dead letter of this id (any more).", err=True)
        raise SystemExit(1)
    if as_json:
        click.echo(tables.as_json(detail.letter_json(letter, text=show_text, body=show_body)))
    else:
        tables.console().print(detail.letter_view(letter, now, text=show_text, body=show_body))


@command.command("retry")
@choosing.places
@handler_option
@team_option
@error_option
@choosing.ages
@click.option("--force", is_flag=True, help="Those that a newer change of their prospect has overtaken, too.")
@choosing.rate
@choosing.consent
def retry_command(  # noqa: PLR0917 - click passes them by name
    places: tuple[tuple[int, str], ...],
    handler: str | None,
    team: str | None,
    error: str | None,
    older_than: int | None,
    newer_than: int | None,
    everything: bool,
    force: bool,
    rate: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Give dead letters back to their handlers: those of these IDs, those that match, or --all.

    Each goes to the end of its lane with all its attempts, marked late; those of a lane in the order of their events. A
    change is stale when a newer one of its prospect went out since with another owner: calling the handler would undo
    that, so it is skipped and stays. The handler's own rate and order hold as for any job. Interrupted, run it again.

    Exit code 0: done; 1: some are stale, lost or not there, or you said no; 2: wrong usage, or the server can't be
    asked.
    """
    from worker.ops import acting, dead_actions, listing
    from worker.ops.installed import installed
    from worker.store.dead import DeadFilter

    choosing.one_way(places, everything, handler, team, error, older_than, newer_than)
    asked = acting.Asked(yes, dry_run, as_json, bool(places), rate)
    with installed() as found:
        window = listing.window(found.now(), older_than=older_than, newer_than=newer_than, oldest_first=True)
        letters, missing = dead_actions.choose(found, places, DeadFilter(handler, team, error), window)
        for warning in dead_actions.warnings(found, letters):
            click.echo(warning, err=True)
        args = choosing.told(
            places, handler=handler, team=team, error=error, older_than=older_than, newer_than=newer_than
        ) | {"force": force}
        action = dead_actions.retry(found, letters, missing, args, force=force)
        report = acting.carry_out(found, asked, action)
    raise SystemExit(acting.tell(report, action, asked))


@command.command("drop")
@choosing.places
@handler_option
@team_option
@error_option
@click.option("--stale", is_flag=True, help="Only those that a newer change of their prospect has overtaken.")
@choosing.ages
@choosing.consent
def drop_command(  # noqa: PLR0917 - click passes them by name
    places: tuple[tuple[int, str], ...],
    handler: str | None,
    team: str | None,
    error: str | None,
    stale: bool,
    older_than: int | None,
    newer_than: int | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget dead letters for good: those of these IDs, those that match, or --all.

    Their jobs stay counted as dead. Exit code 0: done; 1: some were not there, or you said no; 2: wrong usage, or the
    server can't be asked.
    """
    from worker.ops import acting, dead_actions, listing
    from worker.ops.installed import installed
    from worker.store.dead import DeadFilter

    choosing.one_way(places, everything, handler, team, error, older_than, newer_than, stale or None)
    asked = acting.Asked(yes, dry_run, as_json, bool(places))
    with installed() as found:
        window = listing.window(found.now(), older_than=older_than, newer_than=newer_than, oldest_first=True)
        letters, missing = dead_actions.choose(found, places, DeadFilter(handler, team, error), window)
        letters = dead_actions.stale_ones(found, letters) if stale else letters
        args = choosing.told(
            places, handler=handler, team=team, error=error, older_than=older_than, newer_than=newer_than
        ) | {"stale": stale}
        action = dead_actions.forget(found, letters, missing, args)
        report = acting.carry_out(found, asked, action)
    raise SystemExit(acting.tell(report, action, asked))
