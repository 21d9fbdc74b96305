"""``handoff quarantine``: signed deliveries that could not be used."""

from __future__ import annotations

import click

from worker.ops import choosing, list_options


@click.group()
def command() -> None:
    """See signed deliveries that could not be understood, retry them, or drop them."""


reason_option = click.option("--reason", help="Only this reason's, for instance not_json or too_old.")
team_option = click.option("--team", help="Only this team's, where it could be read.")


@command.command("list")
@reason_option
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


@command.command("show")
@click.argument("place", type=choosing.PlaceType(), metavar="ID")
@click.option("--show-body", is_flag=True, help="The body, too. It may hold personal data.")
@click.option("--json", "as_json", is_flag=True, help="Print one object; times are ms since 1970.")
def show_command(place: tuple[int, str], show_body: bool, as_json: bool) -> None:
    """Show one quarantined delivery: why it is here, its times, and whether a retry would help.

    ID is what `handoff quarantine list` prints. Exit code 0: shown; 1: there is none of this id (any more); 2: the
    server can't be asked.
    """
    from worker.ops import detail, tables
    from worker.ops.installed import installed
    from worker.store.quarantine import body_of, quarantined_at

    with installed() as found:
        now = found.now()
        deliveries = quarantined_at(found.client, found.partitions, [place])
        body = body_of(found.client, found.partitions[place[0]], place[1]) if deliveries and show_body else None
    if not deliveries:
        click.echo("There is no quarantined delivery of this id (any more).", err=True)
        raise SystemExit(1)
    if as_json:
        click.echo(tables.as_json(detail.quarantined_json(deliveries[0], body)))
    else:
        tables.console().print(detail.quarantined_view(deliveries[0], now, body))


@command.command("retry")
@choosing.places
@reason_option
@team_option
@choosing.ages
@click.option("--force", is_flag=True, help="Also what can't be read, and what may be a duplicate: you vouch for it.")
@choosing.rate
@choosing.consent
def retry_command(  # noqa: PLR0917 - click passes them by name
    places: tuple[tuple[int, str], ...],
    reason: str | None,
    team: str | None,
    older_than: int | None,
    newer_than: int | None,
    everything: bool,
    force: bool,
    rate: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Accept quarantined deliveries once more: those of these IDs, those that match, or --all.

    Each goes to the end of the inbox as it was received. What this version of Handoff can't read is skipped, for it
    would only come back; so is what is too_old, which may be a duplicate. With --force they go too, and what was
    too_old goes out as a late event: you say that it was never handled. Interrupted, run it again.

    Exit code 0: done; 1: some were skipped or not there, or you said no; 2: wrong usage, or the server can't be asked.
    """
    from worker.ops import acting, listing, quarantine_actions
    from worker.ops.installed import installed

    choosing.one_way(places, everything, reason, team, older_than, newer_than)
    asked = acting.Asked(yes, dry_run, as_json, bool(places), rate)
    with installed() as found:
        window = listing.window(found.now(), older_than=older_than, newer_than=newer_than, oldest_first=True)
        deliveries, missing = quarantine_actions.choose(found, places, window, team=team, reason=reason)
        filters = choosing.told(places, reason=reason, team=team, older_than=older_than, newer_than=newer_than)
        action = quarantine_actions.retry(found, deliveries, missing, filters | {"force": force}, force=force)
        report = acting.carry_out(found, asked, action)
    raise SystemExit(acting.tell(report, action, asked))


@command.command("drop")
@choosing.places
@reason_option
@team_option
@choosing.ages
@choosing.consent
def drop_command(  # noqa: PLR0917 - click passes them by name
    places: tuple[tuple[int, str], ...],
    reason: str | None,
    team: str | None,
    older_than: int | None,
    newer_than: int | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget quarantined deliveries for good: those of these IDs, those that match, or --all.

    Exit code 0: done; 1: some were not there, or you said no; 2: wrong usage, or the server can't be asked.
    """
    from worker.ops import acting, listing, quarantine_actions
    from worker.ops.installed import installed

    choosing.one_way(places, everything, reason, team, older_than, newer_than)
    asked = acting.Asked(yes, dry_run, as_json, bool(places))
    with installed() as found:
        window = listing.window(found.now(), older_than=older_than, newer_than=newer_than, oldest_first=True)
        deliveries, missing = quarantine_actions.choose(found, places, window, team=team, reason=reason)
        filters = choosing.told(places, reason=reason, team=team, older_than=older_than, newer_than=newer_than)
        action = quarantine_actions.forget(found, deliveries, missing, filters)
        report = acting.carry_out(found, asked, action)
    raise SystemExit(acting.tell(report, action, asked))
