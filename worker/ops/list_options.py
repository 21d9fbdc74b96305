"""The options that every list of kept entries has. Imports click only: commands import this when they are looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class DurationOption(click.ParamType[int]):
    """``90s``, ``5m``, ``24h``, ``7d``, as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from worker.settings import seconds

        try:
            return int(seconds(value) * 1000)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both lists have."""
    added: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
        click.option("--team", help="Only this team's."),
        click.option("--older-than", type=DurationOption(), help="Only those that came here longer ago: 90s, 24h, 7d."),
        click.option("--newer-than", type=DurationOption(), help="Only those that came here since: 90s, 24h, 7d."),
        click.option("--oldest-first", is_flag=True, help="Instead of the newest first."),
        click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many."),
    ]
    for option in reversed(added):
        command = option(command)
    return command
