"""The handler for first runs: writes each change to the log, ids only, and does nothing else."""

from __future__ import annotations

from worker import AssigneeChange, Context, handler


@handler(name="log", attempts=1)
def log_change(change: AssigneeChange, ctx: Context) -> None:
    """One line per change, with the ids of prospect and members and no personal data."""
    ctx.log.info(
        "assignee_changed",
        kind=change.kind.value,
        prospect=change.prospect.key,
        previous=change.previous_assignee_id,
        previous_known=change.previous_known,
        current=change.assignee_id,
        seq=change.seq,
        late=change.late,
    )
