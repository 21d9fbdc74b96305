"""The ``handoff`` command. Every module of ``worker.ops.commands`` that has a ``command`` is a subcommand.

Exit codes: 0 done; 1 done, and the answer is a bad one (each command says which); 2 wrong usage or configuration, or
a server that can't be asked, told in one line. Anything else is a fault of ours and shows its traceback.

Command modules import at the top only what is quick (click, errors); settings, Celery, redis and httpx are imported
when a command runs, so that ``handoff --help`` answers at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import click

from worker.errors import HandoffError


class _OneLine(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Finds its commands in the package, by file name (``dead_list.py`` is ``dead-list``)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from worker.ops import commands

        del ctx
        return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"worker.ops.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HandoffError as error:
            raise _OneLine(str(error)) from None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Settings come from HANDOFF_* environment variables and .env: see `handoff settings`.",
)
@click.version_option(package_name="handoff", message="%(prog)s %(version)s")
def main() -> None:
    """Handoff: signed webhooks in, ordered and deduplicated assignee changes out."""


if __name__ == "__main__":
    main(prog_name="handoff")
