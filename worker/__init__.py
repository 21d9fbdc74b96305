"""Handoff's handler API.

from worker import AssigneeChange, Context, Retry, handler

@handler(queue="crm", rate="100/10s", attempts=10, timeout=10)
async def push_owner(change: AssigneeChange, ctx: Context) -> None:
    ...
"""

from worker.api import BatchContext, CallTimeout, Context, DeadLetter, Discard, Retry, handler, route
from worker.core.breaker import Breaker
from worker.core.changes import ChangeKind
from worker.core.events import AssigneeChange, Event, Prospect
from worker.core.retry import Backoff

__all__ = [
    "AssigneeChange",
    "Backoff",
    "BatchContext",
    "Breaker",
    "CallTimeout",
    "ChangeKind",
    "Context",
    "DeadLetter",
    "Discard",
    "Event",
    "Prospect",
    "Retry",
    "handler",
    "route",
]
