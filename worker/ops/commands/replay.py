"""``handoff replay``: released events to a handler, once more or for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.ops.list_options import DurationOption

if TYPE_CHECKING:
    from worker.ops.installed import Installed
    from worker.ops.replaying import Counts
    from worker.store.replay import Plan


@click.command()
@click.option("--to", "handler", help="The handler that gets them.")
@click.option("--team", help="Only this team's events.")
@click.option("--prospect", help="Only changes of this prospect (its key).")
@click.option("--type", "kind", help="Only events of this type or pattern, such as 'prospect.*'.")
@click.option("--older-than", type=DurationOption(), help="Only those released longer ago: 90s, 24h, 7d.")
@click.option("--newer-than", type=DurationOption(), help="Only those released since: 90s, 24h, 7d.")
@click.option("--rate", type=click.FloatRange(0.1, 100_000), default=1000, show_default=True, help="Jobs per second.")
@click.option("--force", is_flag=True, help="Changes that a newer one of their prospect has overtaken, too.")
@click.option("--dry-run", is_flag=True, help="Only count what would be replayed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--resume", help="Go on with a replay that was stopped, by its id.")
@click.option("--forget", help="Give up a replay that was stopped, by its id.")
@click.option("--list", "listing", is_flag=True, help="List the replays that are not finished.")
@click.option("--json", "as_json", is_flag=True, help="Print {id, records, replayed, skipped}.")
def command(  # noqa: PLR0917 - click passes them by name
    handler: str | None,
    team: str | None,
    prospect: str | None,
    kind: str | None,
    older_than: int | None,
    newer_than: int | None,
    rate: float,
    force: bool,
    dry_run: bool,
    yes: bool,
    resume: str | None,
    forget: str | None,
    listing: bool,
    as_json: bool,
) -> None:
    """Give released events of the archive to a handler, in order, behind what waits for it already.

    A new handler is filled from the past like this. A change that a newer one of its prospect has overtaken is skipped,
    so what the handler ends with is the newest owner; replayed calls are marked late. Interrupted, a replay goes on
    where it stopped with --resume. The handler's own rate, order and retries hold as for any job.

    Exit code 0: done; 1: there is nothing to replay, or you said no; 2: wrong usage, or the server can't be asked.
    """
    from worker.core.replaying import Wanted
    from worker.ops import replaying, tables
    from worker.ops.installed import installed
    from worker.ops.people import who

    if sum((handler is not None, resume is not None, forget is not None, listing)) != 1:
        raise click.UsageError("say one of --to, --resume, --forget and --list")
    if handler is None and (
        dry_run or force or any(o is not None for o in (team, prospect, kind, older_than, newer_than))
    ):
        # A replay keeps what it was asked for. Above all, --dry-run must not be passed over in silence.
        raise click.UsageError("--dry-run, --force and what chooses events go with --to only")
    with installed() as found:
        known = replaying.replays(found)
        if listing:
            _list(found, as_json=as_json)
            return
        if forget is not None or resume is not None:
            plan = known.all().get(str(forget or resume))
            if plan is None:
                raise click.UsageError(f"there is no replay {forget or resume}: see --list")
            if forget is not None:
                known.forget(forget)
                click.echo(f"Forgot {forget}; what it replayed stays replayed.")
                return
        else:
            now = found.now()
            since = None if newer_than is None else now - newer_than
            until = None if older_than is None else now - older_than
            wanted = Wanted(team, prospect, kind, since, until)
            plan = replaying.new(found, str(handler), who(), wanted, force=force)
            if not _agreed(found, plan, dry_run=dry_run, yes=yes, as_json=as_json):
                return
            known.save(plan)
        counts = _on_record(found, plan, rate=rate)
        known.forget(plan.id)
    if as_json:
        click.echo(tables.as_json({"id": plan.id} | counts.document()))
    else:
        click.echo(_words(counts, "Replayed"))


def _agreed(found: Installed, plan: Plan, *, dry_run: bool, yes: bool, as_json: bool) -> bool:
    """Count, show, and ask. Exits where there is nothing to do, or nobody to ask."""
    from worker.ops import acting, replaying, tables

    if yes and not dry_run:
        return True
    counts = replaying.Counts()
    for step in replaying.steps(found, plan, rate=None, dry=True):
        counts.add(step)
    if dry_run and as_json:
        click.echo(tables.as_json({"id": None} | counts.document()))
    elif not as_json or not counts.replayed:
        click.echo(_words(counts, "Would replay"), err=as_json)
    if not counts.replayed:
        raise SystemExit(1)
    if dry_run:
        return False
    if not acting.somebody_is_there():
        raise click.UsageError("there is nobody to ask: say --yes, or --dry-run to count only")
    if not click.confirm(f"Replay {tables.plural(counts.replayed, 'event')} to {plan.handler}?", err=as_json):
        click.echo("Nothing was done.", err=True)
        raise SystemExit(1)
    return True


def _on_record(found: Installed, plan: Plan, *, rate: float) -> Counts:
    """Do it. Whether it ends, is stopped or is killed, it leaves a record; each time it is gone on with, another."""
    from worker.ops import replaying

    counts = replaying.Counts()
    begun = _record(found, plan, counts, unfinished=True)
    whole = False
    try:
        _run(found, plan, counts, rate=rate)
        whole = True
    finally:
        _record(found, plan, counts, unfinished=not whole, instead_of=begun)
    return counts


def _run(found: Installed, plan: Plan, counts: Counts, *, rate: float) -> None:
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from worker.ops import replaying

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"replaying to {plan.handler}", total=None)
        try:
            for step in replaying.steps(found, plan, rate=rate, dry=False):
                counts.add(step)
                progress.update(task, advance=step.records, description=f"replayed {counts.replayed:,}")
        except BaseException:
            click.echo(f"Stopped after {counts.replayed:,}; go on with: handoff replay --resume {plan.id}", err=True)
            raise


def _record(found: Installed, plan: Plan, counts: Counts, *, unfinished: bool, instead_of: str | None = None) -> str:
    import msgspec

    from worker.ops.people import who
    from worker.store import actions

    asked = {
        k: v for k, v in msgspec.to_builtins(plan).items() if v not in (None, False) and k not in {"ends", "by", "at"}
    }
    return actions.record(
        found.client,
        found.settings.prefix,
        who=who(),
        what="replay",
        args=asked | ({"unfinished": True} if unfinished else {}),
        count=counts.replayed,
        instead_of=instead_of,
    )


def _words(counts: Counts, verb: str) -> str:
    from worker.ops import replaying, tables

    lines = [f"{verb} {tables.plural(counts.replayed, 'event')} of {counts.records:,} in the archive."]
    for skip, words in replaying.REASONS.items():
        if counts.skipped[skip]:
            lines.append(f"  {counts.skipped[skip]:,} skipped: {words}")
    return "\n".join(lines)


def _list(found: Installed, *, as_json: bool) -> None:
    import msgspec

    from worker.ops import replaying, tables

    plans = replaying.replays(found).all().values()
    if as_json:
        click.echo(tables.as_json([msgspec.to_builtins(plan) for plan in plans]))
        return
    if not plans:
        click.echo("No replay is unfinished.")
        return
    shown = tables.table("id", "handler", "by", "begun")
    for plan in plans:
        shown.add_row(*map(tables.cell, (plan.id, plan.handler, plan.by, tables.moment(plan.at))))
    tables.console().print(shown)
