"""A handler that does nothing: what is left is Handoff's own cost."""

from __future__ import annotations

from worker import Context, Event, handler


@handler(name="noop", on="*")
def noop(event: Event, ctx: Context) -> None:
    return
