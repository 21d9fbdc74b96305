"""The options by which people choose what a command is done to. Imports click only, as list_options.py does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from worker.ops.list_options import DurationOption


class PlaceType(click.ParamType[tuple[int, str]]):
    """``3:1700000000000-0``: an id as the lists print it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        from worker.store.pages import place_of

        try:
            return place_of(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _all_of(added: Sequence[Decorator]) -> Decorator:
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(added):
            command = option(command)
        return command

    return decorate


ages = _all_of(
    [
        click.option("--older-than", type=DurationOption(), help="Only those that came here longer ago: 90s, 24h, 7d."),
        click.option("--newer-than", type=DurationOption(), help="Only those that came here since: 90s, 24h, 7d."),
        click.option("--all", "everything", is_flag=True, help="All of them."),
    ]
)

places = click.argument("places", nargs=-1, type=PlaceType(), metavar="[ID]...")

consent = _all_of(
    [
        click.option("--dry-run", is_flag=True, help="Only count what would be done."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--json", "as_json", is_flag=True, help="Print {matched, missing, dry_run, by, ...} with counts."),
    ]
)

rate = click.option(
    "--rate", type=click.FloatRange(0.1, 100_000), default=500, show_default=True, help="How many a second."
)


def one_way(named: Sequence[object], everything: bool, *filters: object) -> None:
    """Raises ``UsageError`` unless things are chosen by name, or by filters, or all of them."""
    filtered = any(value is not None for value in filters)
    if sum((bool(named), everything or filtered)) != 1:
        raise click.UsageError("say which: name them, or use filters, or --all")


def told(places: Sequence[tuple[int, str]], **filters: object) -> dict[str, object]:
    """What a command was told, for its record."""
    return {"ids": [f"{partition}:{entry}" for partition, entry in places], **filters}
