"""The load of a long run: made while it is sent, so that only the next few seconds of it are ever in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from tests.chaos.history import Message
from tests.chaos.workload import Posting, Shape, stream

LATEST: Final = 2.0  # seconds after its first sending that an event is sent a second time


@dataclass(frozen=True)
class Feed:
    """``made`` is called with each message, without its body if it is an event: nobody looks at those again. Events
    happen from the moment on in which the first is asked for."""

    seed: int
    shape: Shape
    ingresses: int
    made: Callable[[Message], None] = lambda _: None

    @property
    def ends(self) -> float:
        return self.shape.seconds + self.shape.dropped_for + LATEST

    def postings(self) -> Iterator[Posting]:
        waiting: list[tuple[float, int, int, Posting]] = []
        events = 0
        load = stream(self.seed, self.shape, ingresses=self.ingresses, started=datetime.now(UTC))
        for number, (message, times) in enumerate(load):
            self.made(replace(message, body=b"") if message.kind == "event" else message)
            for at, ingress in times:
                heapq.heappush(waiting, (at, number, ingress, Posting(at, message, ingress)))
            events += message.kind == "event"
            # A message is sent when it happens, or later: what is due before this one did, nothing comes in front of.
            while waiting and waiting[0][0] < (events - 1) / self.shape.rate:
                yield heapq.heappop(waiting)[-1]
        while waiting:
            yield heapq.heappop(waiting)[-1]
