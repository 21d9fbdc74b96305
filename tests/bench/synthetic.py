"""Deliveries of any number of teams, made as they are asked for: nothing of a million of them is kept.

Bodies are the provider's sample with other ids in it, so all have about one size. What comes is a function of the seed,
but for the time of the events, which is that of the call unless another is given.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import accumulate
from typing import Final

from worker.ops.samples import ZIPF_EXPONENT, SampleDelivery, sample

FIRST: Final = 1  # the number of every team's first event
PROSPECTS: Final = 20  # of each team
MEMBERS: Final = 5
DUPLICATES: Final = 0.2
DISPLACEMENT: Final = 32


def team_of(index: int) -> str:
    """24 characters, as the provider's ids are, and the same in every run; spread over partitions as those are."""
    return f"{index * 0x9E3779B97F4A7C15 % 2**96:024x}"


def weights(teams: int, exponent: float) -> list[float]:
    """Share of all events that each team has, the largest first: Zipf. 0 makes them all alike."""
    sizes = [(rank + 1) ** -exponent for rank in range(teams)]
    whole = sum(sizes)
    return [size / whole for size in sizes]


class Stream:
    """``events`` distinct events of ``teams`` teams of Zipf(1.1) size, without gaps; 20 % are delivered twice, and each
    arrives up to 32 places behind its turn. ``counts`` has how many each team (by index) was given so far."""

    def __init__(
        self, seed: int, events: int, teams: int, exponent: float = ZIPF_EXPONENT, *, at: datetime | None = None
    ) -> None:
        self._rng = random.Random(seed)
        self._events = events
        self._cumulated = list(accumulate(weights(teams, exponent)))
        self._body = _body(at or datetime.now(UTC))
        self.counts: dict[int, int] = {}

    def __iter__(self) -> Iterator[SampleDelivery]:
        rng, on_their_way = self._rng, list[tuple[float, SampleDelivery]]()
        indices = range(len(self._cumulated))
        for turn in range(self._events):
            while on_their_way and on_their_way[0][0] < turn:
                yield heappop(on_their_way)[1]
            delivery = self._next(rng.choices(indices, cum_weights=self._cumulated)[0])
            heappush(on_their_way, (turn + rng.randint(0, DISPLACEMENT), delivery))
            if rng.random() < DUPLICATES:
                heappush(on_their_way, (turn + rng.randint(0, DISPLACEMENT) + 0.5, delivery))
        while on_their_way:
            yield heappop(on_their_way)[1]

    def _next(self, index: int) -> SampleDelivery:
        rng = self._rng
        number = self.counts.get(index, 0)
        self.counts[index] = number + 1
        team, seq, event_id = team_of(index), FIRST + number, f"{rng.getrandbits(96):024x}"
        prospect = f"{index:08x}{rng.randrange(PROSPECTS):016x}"
        body = self._body % (event_id, seq, team, prospect, f"{index:08x}{rng.randrange(MEMBERS):016x}")
        return SampleDelivery(body.encode(), team, seq, event_id)


def _body(at: datetime) -> str:
    """What a change of owner looks like, with room for the event's id, seq and team, the prospect and the owner."""
    data = sample("prospect.assigneeChanged")["data"]
    data["prospect"]["externalId"] = "\x01"
    data["prospect"]["context"]["assigneeId"] = "\x02"
    time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = json.dumps(data, separators=(",", ":")).replace("%", "%%")
    text = text.replace(json.dumps("\x01"), '"%s"').replace(json.dumps("\x02"), '"%s"')
    head = '{"id":"%s","seq":%d,"teamId":"%s","type":"prospect.assigneeChanged",'
    return f'{head}"timestamp":"{time}","version":"1.0","data":{text}}}'
