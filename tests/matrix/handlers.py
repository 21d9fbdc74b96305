"""The handler of the matrix: notes each call in a file, which no fault of a server touches."""

from __future__ import annotations

import os
import time

from worker import Backoff, Context, Event, handler


def _note(what: str, event: Event) -> None:
    """One write to a file opened to append: lines of several processes do not mix."""
    line = f"{what} {time.monotonic():.3f} {event.team_id} {event.seq} {event.id}\n"
    descriptor = os.open(os.environ["MATRIX_CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@handler(name="noted", on="*", attempts=100, backoff=Backoff(base=0.2, cap=1.0), timeout=60, breaker=None)
def noted(event: Event, ctx: Context) -> None:
    """A team whose name begins with "slow" has calls of as many seconds as its data says."""
    _note("begin", event)
    if event.team_id.startswith("slow"):
        time.sleep(event.data["seconds"])
    _note("end", event)
