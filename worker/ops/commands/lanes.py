"""``handoff lanes``: the queues of each handler, one for each ordering key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.ops import choosing

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.ops.acting import Action
    from worker.ops.installed import Installed


@click.group()
def command() -> None:
    """See what waits for whom; pause lanes, resume them, unblock those whose first job ran out of attempts."""


handler_argument = click.argument("handler")
lanes_argument = click.argument("lanes", nargs=-1, metavar="[LANE]...")
team_option = click.option("--team", help="This team's lanes.")
everything_option = click.option("--all", "everything", is_flag=True, help="All of the handler's.")


@command.command("list")
@click.option("--handler", help="Only this handler's.")
@click.option("--team", help="Only this team's.")
@click.option("--blocked", "only", flag_value="blocked", help="Only those whose first job ran out of attempts.")
@click.option("--paused", "only", flag_value="paused", help="Only those that a person paused.")
@click.option(
    "--troubled", "only", flag_value="troubled", help="Only those that are blocked, paused, or failed before."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print {more, lanes: [...]}; times are ms since 1970.")
def list_command(handler: str | None, team: str | None, only: str | None, limit: int, *, as_json: bool) -> None:
    """List lanes that have jobs or are paused: those that need a person first, then by the age of their first job.

    A lane is named by its team, or by its team and prospect; tries are those of its first job. Of a great many, those
    that are due first are shown. Exit code 0: listed, though there may be none; 2: the server can't be asked.
    """
    from worker.ops import lane_list, tables
    from worker.ops.installed import installed

    with installed() as found:
        shown = lane_list.find(found, lane_list.LaneFilter(handler, team, only), limit)
    if as_json:
        click.echo(tables.as_json(lane_list.document(shown)))
    else:
        tables.console().print(lane_list.view(shown))


@command.command("pause")
@handler_argument
@lanes_argument
@team_option
@choosing.consent
def pause_command(  # noqa: PLR0917 - click passes them by name
    handler: str, lanes: tuple[str, ...], team: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Pause lanes of HANDLER: the named ones, which may be empty, or the --team's own and all that have jobs of it now.

    Calls in hand end; then nothing of these lanes is called, and what comes to them waits. Nothing else is held up.

    Exit code 0: done; 1: you said no; 2: wrong usage, or the server can't be asked.
    """
    from worker.ops import lane_actions

    choosing.one_way(lanes, False, team)
    args = {"lanes": list(lanes), "team": team}

    def make(found: Installed) -> Action[tuple[int, str]]:
        chosen = lane_actions.named(found, lanes) if team is None else lane_actions.of_team(found, handler, team)
        return lane_actions.pause(found, handler, chosen, args)

    _carry_out(handler, make, named=bool(lanes), dry_run=dry_run, yes=yes, as_json=as_json)


@command.command("resume")
@handler_argument
@lanes_argument
@team_option
@everything_option
@choosing.consent
def resume_command(  # noqa: PLR0917 - click passes them by name
    handler: str,
    lanes: tuple[str, ...],
    team: str | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Let paused lanes of HANDLER on: the named ones, the --team's, or --all. They are due at once.

    Exit code 0: done; 1: some were not paused, or you said no; 2: wrong usage, or the server can't be asked.
    """
    from worker.ops import lane_actions
    from worker.store.blocking import Why

    choosing.one_way(lanes, everything, team)
    args = {"lanes": list(lanes), "team": team}

    def make(found: Installed) -> Action[tuple[int, str]]:
        chosen = lane_actions.named(found, lanes)
        if not lanes:
            chosen = lane_actions.blocked(found, handler, Why.PAUSED, team=team)
        return lane_actions.resume(found, handler, chosen, args)

    _carry_out(handler, make, named=bool(lanes), dry_run=dry_run, yes=yes, as_json=as_json)


@command.command("unblock")
@handler_argument
@lanes_argument
@team_option
@click.option("--error", help="Those that are blocked by this class of error, with or without its module.")
@everything_option
@click.option("--give-up", is_flag=True, help="Send the first job of each to the dead letters instead.")
@choosing.consent
def unblock_command(  # noqa: PLR0917 - click passes them by name
    handler: str,
    lanes: tuple[str, ...],
    team: str | None,
    error: str | None,
    everything: bool,
    give_up: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Let lanes of HANDLER on whose first job ran out of attempts (on_exhausted="block"): it has all of them again.

    Exit code 0: done; 1: some were not blocked, or you said no; 2: wrong usage, or the server can't be asked.
    """
    from worker.ops import lane_actions
    from worker.store.blocking import Why

    choosing.one_way(lanes, everything, team, error)
    args = {"lanes": list(lanes), "team": team, "error": error, "give_up": give_up}

    def make(found: Installed) -> Action[tuple[int, str]]:
        chosen = lane_actions.named(found, lanes)
        if not lanes:
            chosen = lane_actions.blocked(found, handler, Why.EXHAUSTED, team=team, error=error)
        return lane_actions.unblock(found, handler, chosen, args, give_up=give_up)

    _carry_out(handler, make, named=bool(lanes), dry_run=dry_run, yes=yes, as_json=as_json)


def _carry_out(
    handler: str,
    make: Callable[[Installed], Action[tuple[int, str]]],
    *,
    named: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Exits with the command's code."""
    from worker.ops import acting, lane_list
    from worker.ops.installed import installed

    asked = acting.Asked(yes, dry_run, as_json, named)
    with installed() as found:
        lane_list.handlers(found, handler)
        action = make(found)
        report = acting.carry_out(found, asked, action)
    raise SystemExit(acting.tell(report, action, asked))
