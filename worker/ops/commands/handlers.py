"""``handoff handlers``: what the workers said they have; and a handler paused, and resumed."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a handler.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the handlers that workers announced, how they are set, and the jobs that wait for them.

    A handler that no worker announced, but that was given jobs, is listed without its settings. Exit code 0: listed,
    though there may be none; 2: the server can't be asked.
    """
    if ctx.invoked_subcommand is None:
        _list(as_json)
    elif as_json:
        raise click.UsageError("--json is for the list: `handoff handlers --json`")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a handler.")
def list_command(as_json: bool) -> None:
    """List the handlers, as `handoff handlers` does."""
    _list(as_json)


def _list(as_json: bool) -> None:
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


@command.command()
@click.argument("name")
def pause(name: str) -> None:
    """Let no call of a handler begin, on any worker, until it is resumed.

    Calls that run end as they will; within a second none begins. Its jobs wait, and count for the backlog. Exit code
    0: it is paused now; 2: there is no such handler, or the server can't be asked.
    """
    _control(name, pause=True)


@command.command()
@click.argument("name")
def resume(name: str) -> None:
    """Let calls of a paused handler begin again, where each lane stopped.

    Exit code 0: it is not paused now; 2: there is no such handler, or the server can't be asked.
    """
    _control(name, pause=False)


def _control(name: str, *, pause: bool) -> None:
    from worker.ops.handler_control import change
    from worker.ops.installed import installed

    with installed() as found:
        click.echo(change(found, name, pause=pause))
