"""What a runner does about rates: calls are asked for before lanes are claimed, and those not made are given back.

A call that was granted is used, whatever becomes of the process; only one that certainly was not begun is given back,
after its lane has been handed back and nobody else could have taken it from us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from worker.core.handlers import HandlerSpec
from worker.errors import StoreUnavailable
from worker.runtime.process import Process
from worker.store.installation import fix_partitions
from worker.store.keys import PartitionKeys
from worker.store.lanes import Claim, LaneStore
from worker.store.rate import Demand, RateStore, Taken, TeamRates, demand, stretch_ms

CLUMP: Final = 0.01
"""Seconds of a rate that may be taken at once where calls are made one after another: the last of them begins later
than it was granted, and so nearer to those of the next stretch."""

log = structlog.get_logger("handoff.runner")


def lane_store(process: Process, spec: HandlerSpec, partition: int) -> LaneStore:
    """The handler's lanes in a partition, on the handler's terms."""
    return LaneStore(
        process.client,
        process.scripts,
        PartitionKeys(process.settings.prefix, partition),
        spec.name,
        wide=spec.order_by != "team",
        team_rate=(0, 1) if spec.team_rate is None else (spec.team_rate.calls, stretch_ms(spec.team_rate)),
        conflate=spec.conflate,
    )


class Rates:
    """The rates of one handler, as one run in one partition sees them. ``take`` may raise ``StoreUnavailable``."""

    def __init__(self, process: Process, spec: HandlerSpec, partition: int, *, parallel: bool) -> None:
        self._process = process
        self._spec = spec
        self._partition = partition
        self._parallel = parallel
        prefix, scripts = process.settings.prefix, process.scripts
        keys = PartitionKeys(prefix, partition)
        self._rate = None if spec.rate is None else RateStore(scripts, prefix, spec.name, spec.rate)
        self._teams = None if spec.team_rate is None else TeamRates(scripts, keys, spec.name, spec.team_rate)
        self._grants: dict[int, tuple[Taken, int]] = {}  # by the claim's token: what was taken, and when it was claimed

    @property
    def limited(self) -> bool:
        """Whether lanes are claimed a job at a time, so that each call is one that was granted just now."""
        return self._rate is not None or self._teams is not None

    def take(self, wanted: int) -> Taken:
        """Calls for up to ``wanted`` lanes that are due; where none is, none are granted, and wait is 0."""
        rates = [rate for rate in (self._spec.rate, self._spec.team_rate) if rate is not None]
        if not self._parallel:
            wanted = min(wanted, *(max(1, int(rate.calls / rate.seconds * CLUMP)) for rate in rates))
        if self._rate is None:
            return Taken(wanted, 0, 0)
        demands = self._demands()
        if self._partition not in demands:
            return Taken(0, 0, 0)
        return self._rate.take(min(wanted, demands[self._partition].due), self._partition, demands)

    def _demands(self) -> dict[int, Demand]:
        process, wide = self._process, self._spec.order_by != "team"
        if not process.partitions:
            process.partitions = fix_partitions(process.client, process.settings)
        every = [PartitionKeys(process.settings.prefix, number) for number in range(process.partitions)]
        demands = demand(process.client, every, self._spec.name, wide=wide)
        uncounted = [number for number, found in demands.items() if not found.teams]
        if not uncounted:
            return demands
        for number in uncounted:
            lane_store(process, self._spec, number).claim(lanes=1, jobs=0, per_lane=1)
        return demand(process.client, every, self._spec.name, wide=wide)

    def claimed(self, claim: Claim, taken: Taken, *, calls: int | None = None) -> None:
        """Give back what was taken for lanes that somebody else got, or of which conflation left nothing. ``calls`` is
        how many will be made, if it is not one for each job."""
        made = sum(len(lane.jobs) for lane in claim.lanes) if calls is None else calls
        if made:
            self._grants[claim.token] = taken, claim.now
        with self._optional():
            if self._rate is not None:
                self._rate.give_back(taken.granted - made, taken, self._partition)
            if self._teams is not None:
                for lane in claim.dropped:
                    self._teams.give_back(1, lane, claim.now)

    def unmade(self, lanes: Iterable[tuple[int, str]]) -> None:
        """Give back the calls of lanes, each with its token, that were handed back with no call begun."""
        with self._optional():
            for token, lane in lanes:
                taken, at = self._grants[token]
                if self._rate is not None:
                    self._rate.give_back(1, taken, self._partition)
                if self._teams is not None:
                    self._teams.give_back(1, lane, at)

    @contextmanager
    def _optional(self) -> Iterator[None]:
        """Calls that can't be given back are lost, and the rate is kept all the same. A run has lanes in hand by then,
        and to end it for that would be to repeat what it has done."""
        try:
            yield
        except StoreUnavailable as error:
            log.warning("calls_not_given_back", handler=self._spec.name, error=str(error))
