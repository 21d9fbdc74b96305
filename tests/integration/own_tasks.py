"""A handler, and beside it a task of the user's own in the same worker."""

from __future__ import annotations

from pathlib import Path

from celery import shared_task

from worker import AssigneeChange, Context, handler


@handler
def note(change: AssigneeChange, ctx: Context) -> None:
    tidy.apply_async((change.team_id,), {"times": 2}, queue="handoff.deliver")


@shared_task(name="crm.tidy")  # type: ignore[untyped-decorator]
def tidy(team: str, *, times: int = 1) -> None:
    Path(f"tidied-{team}").write_text(str(times))
