"""For a worker that says what its pool has still to write when a bell has been handled."""

from __future__ import annotations

from worker import AssigneeChange, Context, handler
from worker.runtime.consumer import DoorbellConsumer

_hand_out = DoorbellConsumer._hand_out


def telling(self: DoorbellConsumer) -> None:
    waiting = self.pool._pool.outbound_buffer
    before = len(waiting)
    _hand_out(self)
    print(f"<{before} bell, {len(waiting)} left>", flush=True)  # processes write in between one another's


DoorbellConsumer._hand_out = telling  # type: ignore[method-assign]


@handler
def one(change: AssigneeChange, ctx: Context) -> None:
    print(f"<one {change.seq}>", flush=True)


@handler
def other(change: AssigneeChange, ctx: Context) -> None:
    print(f"<other {change.seq}>", flush=True)
