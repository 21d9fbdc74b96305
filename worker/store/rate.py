"""A handler's rate, shared by all workers: calls are taken before lanes are claimed, and unused ones given back.

Scarce calls are shared out among the partitions by how many teams are at work in each (lua/take.lua), so whoever takes
says what is due everywhere. Within a partition, lanes take turns (lua/claim.lua).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import redis

from worker.core.handlers import Rate
from worker.store import keys
from worker.store.client import unavailable_as_error
from worker.store.cluster import AWAY, ClusterClient
from worker.store.keys import PartitionKeys
from worker.store.lanes import LEASE_MS
from worker.store.scripts import Scripts, Word


class Demand(NamedTuple):
    """What a partition has for one handler: teams at work there, and lanes that are due and wait for a call.

    ``teams`` is 0 where they have not been counted yet: nobody has come to give the lanes their turns.
    """

    teams: int
    due: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Calls that were granted ``at`` a time (server ms); in ``wait_ms`` there will be another, 0: there is one now."""

    granted: int
    wait_ms: int
    at: int
    turns: str = "0"


def stretch_ms(rate: Rate) -> int:
    """The stretch in which a rate's calls are counted: a hundredth longer than the rate's own.

    A call begins some milliseconds after it was granted, and not always as many; without that, the calls at the end of
    one stretch and those at the beginning of the next might be one too many for whoever counts them where they arrive.
    """
    return max(1, ceil(rate.seconds * 1010))


def demand(
    client: redis.Redis, partitions: Sequence[PartitionKeys], handler: str, *, wide: bool = False
) -> dict[int, Demand]:
    """The partitions where lanes are due now. ``wide``: a team may have many lanes, and those that wait for a turn are
    counted by team. Raises ``StoreUnavailable``."""
    with unavailable_as_error():
        seconds, micros = client.time()
        now = seconds * 1000 + micros // 1000
        pipe: Any = client.pipeline(transaction=False)
        for each in partitions:
            pipe.zcount(each.ready(handler), "-inf", now)
            # Also those that are being worked on, or will be due soon: they are as busy as the others.
            pipe.zcount(each.ready(handler), "-inf", now + LEASE_MS)
            if wide:
                pipe.zcard(each.turns(handler))
        counts = pipe.execute(raise_on_error=False)
        for answer in counts:
            if isinstance(answer, Exception) and not (isinstance(answer, AWAY) and isinstance(client, ClusterClient)):
                raise answer
    step = 3 if wide else 2
    found = {}
    for at, each in enumerate(partitions):
        answers = counts[at * step : at * step + step]
        if any(isinstance(answer, Exception) for answer in answers):
            continue  # its node of the cluster is away, and can use no calls
        due, busy, *turns = answers
        if due:
            found[each.partition] = Demand(max(0, turns[0] - 2) if turns else busy, due)
    return found


class RateStore:
    """Grants at most ``rate.calls`` in any ``rate.seconds``, over all processes. May raise ``StoreUnavailable``."""

    def __init__(self, scripts: Scripts, prefix: str, handler: str, rate: Rate) -> None:
        self._scripts = scripts
        self._keys = [keys.rate(prefix, handler), keys.rate_turns(prefix, handler)]
        self._terms: list[Word] = [rate.calls, stretch_ms(rate)]

    def take(self, wanted: int, partition: int = 0, demands: Mapping[int, Demand] | None = None) -> Taken:
        """Up to ``wanted`` calls for the lanes of ``partition``, of those that the other ``demands`` leave it."""
        words: list[Word] = [*self._terms, wanted, partition, 0, 0]
        for number, (teams, due) in (demands or {}).items():
            words += (number, teams, due)
        granted, wait, now, turns = self._scripts.run("take", self._keys, words)
        return Taken(int(granted), int(wait), int(now), turns.decode())

    def give_back(self, unused: int, taken: Taken, partition: int = 0) -> None:
        """Return calls of ``taken`` that were not made."""
        if unused > 0:
            cost = float(taken.turns) * unused / taken.granted
            self._scripts.run("take", self._keys, [*self._terms, -unused, partition, taken.at, cost])


class TeamRates:
    """The rates that the teams of one partition have with one handler: a lane's call is taken when it is claimed."""

    def __init__(self, scripts: Scripts, partition: PartitionKeys, handler: str, rate: Rate) -> None:
        self._scripts = scripts
        self._partition = partition
        self._handler = handler
        self._rate = rate

    def give_back(self, unused: int, lane: str, at: int) -> None:
        """Return calls of the lane's team that were granted ``at`` (server ms), and not made."""
        key = self._partition.team_rate(self._handler, lane.partition(":")[0])
        self._scripts.run("give_back", [key], [stretch_ms(self._rate), unused, at])
