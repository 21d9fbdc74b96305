"""The table of handlers: what is unusual is told, and what the environment set is marked."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from worker.core.handlers import HandlerSpec, define
from worker.ops import handler_list
from worker.runtime.overrides import PREFIX, override


def push(change: object, ctx: object) -> None: ...


def shown(*specs: HandlerSpec, **more: Any) -> list[str]:
    """The lines of the table, wide enough for everything."""
    out = io.StringIO()
    rows = [{"announced": True} | spec.describe() | {"waiting": 3} | more for spec in specs]
    Console(file=out, width=300).print(handler_list.view(rows))
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_options_without_a_column_are_told_where_they_are_unusual() -> None:
    plain = define(push)
    odd = define(push, name="odd", order_by=None, batch=10, batch_wait=0.5, unchanged=True, team_rate="5/s")
    _, first, second = shown(plain, odd)
    assert first == "push assignee changes handoff.deliver 11 30 s 1 - - 3"
    assert second == (
        "odd assignee changes handoff.deliver 11 30 s 1 - "
        "team_rate=5/1s order_by=none unchanged batch=10 batch_wait=0.5 s 3"
    )


def test_what_the_environment_set_is_marked_wherever_it_is() -> None:
    said = {"RETRIES": "3", "RATE": "5/s", "LATE": "skip_stale", "BACKOFF": "2s/1m", "TIMEOUT": "5"}
    made = override({"push": define(push)}, {f"{PREFIX}PUSH_{name}": value for name, value in said.items()})
    _, row, legend = shown(made["push"])
    assert row == ("push assignee changes handoff.deliver 4* 5 s* 1 5/1s* backoff=2/60 s* late=skip_stale* 3")
    assert legend == "* from the environment: HANDOFF_HANDLER_<NAME>_<OPTION>"


def test_what_was_taken_away_is_marked_too() -> None:
    made = override({"push": define(push, rate="5/s", conflate=True)}, {
        f"{PREFIX}PUSH_RATE": "none", f"{PREFIX}PUSH_CONFLATE": "off",
    })  # fmt: skip
    assert shown(made["push"])[1] == "push assignee changes handoff.deliver 11 30 s 1 none* conflate=False* 3"


def test_what_an_older_worker_announced_is_shown_as_far_as_it_goes() -> None:
    out = io.StringIO()
    row = {"name": "old", "announced": True, "on": ["a.*"], "queue": "q", "timeout": 1.0, "waiting": 0}
    Console(file=out, width=300).print(handler_list.view([row]))
    assert out.getvalue().splitlines()[1].split() == ["old", "a.*", "q", "-", "1", "s", "-", "-", "-", "0"]
