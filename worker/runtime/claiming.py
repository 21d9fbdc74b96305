"""How many lanes and jobs a run claims, and when: as there is room, as the rate allows, as fast as the handler is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from worker.core.handlers import HandlerSpec
from worker.runtime.batch_executors import BatchExecutor
from worker.runtime.calls import ActiveLane
from worker.runtime.executors import Executor
from worker.runtime.process import Process
from worker.runtime.rates import Rates
from worker.runtime.sweeper import PERIOD
from worker.store.lanes import Claim, LaneStore

FIRST_CLAIM: Final = 1  # jobs; how many a handler can take is found out, once per process
MOST_CLAIM: Final = 1024
CLAIM_SECONDS: Final = 0.1  # the work that a claim of a plain handler should amount to
BEFORE_CONFLATION: Final = 4  # times as many jobs are claimed for a batch as it has room for
CLAIM_AGAIN: Final = 0.1  # seconds between looks for new lanes while others are still running
PASS_ON: Final = (
    0.5  # seconds between two tries to give a bell to another process, while a job has to be alone in this one
)
RATE_BELL: Final = 5.0  # seconds; a rate that frees a call within them gets a bell of its own, for exactly then


class Claimer:
    """Claims for one run. ``given_up`` counts lanes whose call hangs, and holds a place in the executor for nobody
    knows how long. Methods may raise ``StoreUnavailable``."""

    def __init__(
        self,
        process: Process,
        spec: HandlerSpec,
        partition: int,
        *,
        store: LaneStore,
        rates: Rates,
        executor: Executor | BatchExecutor,
        ring: Callable[[], None],
    ) -> None:
        self._process = process
        self._spec = spec
        self._partition = partition
        self._store = store
        self._rates = rates
        self._executor = executor
        self._ring = ring
        self._size = process.claim_sizes.get(spec.name, FIRST_CLAIM)
        self._look_at = 0.0  # when to look for new lanes, monotonic seconds
        self._asked_for_help = False
        self.given_up = 0

    def claim(self, active: Sequence[ActiveLane], *, one: bool) -> Claim | None:
        """Ready lanes, beside the ``active`` ones, if there is room for any; ``one``: a single job of a single lane."""
        if any(lane.alone for lane in active):
            return None
        most = 1 if one else MOST_CLAIM
        if isinstance(self._executor, BatchExecutor):
            return self._for_batches(self._executor, active, most)
        return self._for_calls(self._executor, active, most)

    def begun(self, claim: Claim, lanes: int, *, help_wanted: bool) -> None:
        """So many ``lanes`` of a claim were begun with; ring for what it says of others."""
        self._look_at = 0.0 if claim.more else time.monotonic() + CLAIM_AGAIN
        if claim.dropped and not lanes:
            self._size = min(self._size * 4, MOST_CLAIM)  # conflation left nothing to do: it costs the handler no time
        if claim.more and not self._asked_for_help and help_wanted:
            self._asked_for_help = True
            self._ring()
        if not claim.lanes and claim.next_due is not None:
            self._ring_in(claim.next_due - claim.now)

    def pass_on(self) -> None:
        """Ring once more for what can't be begun in this process now: a job that hangs while it has to be alone here
        would keep each bell that comes here, and the lanes waiting that others have places for."""
        self._process.bells.runner(self._spec.name, self._spec.queue, self._partition, delay=PASS_ON)

    def freed(self) -> None:
        """Places in the executor have become free: worth a look."""
        self._look_at = 0.0

    def adapt(self, count: int, elapsed: float) -> None:
        """Claim about as much as the handler does in CLAIM_SECONDS, but never grow by more than four at a time. A call
        that fails slowly counts too: what is claimed with the next one would wait behind it just as long."""
        if count or elapsed > CLAIM_SECONDS:
            fitting = int(max(count, 1) * CLAIM_SECONDS / max(elapsed, 1e-6))
            self._size = max(1, min(fitting, self._size * 4, MOST_CLAIM))

    def remember(self) -> None:
        """The next run of this process begins with what this one found out."""
        self._process.claim_sizes[self._spec.name] = self._size

    def _for_calls(self, executor: Executor, active: Sequence[ActiveLane], most: int) -> Claim | None:
        lingering = self._process.lingering.lanes(self._spec.name)
        side = self._process.side_runs
        beside = side.lanes(self._spec.name, self._partition)
        room = min(most, executor.lanes - len(active) - self.given_up - lingering - beside)
        if beside and side.careful(self._spec.name, self._partition):
            room = 0
            if not active:
                self.pass_on()
        if room <= 0 and not active and (lingering or beside):
            waits = side if beside else self._process.lingering
            waits.refuse(self._spec.name, self._partition, self._ring)
        # Lanes that would only wait in line here are better claimed by somebody else, when the line is empty.
        if room <= 0 or self._busy(executor, active):
            return None
        jobs = most if executor.parallel else min(most, self._size)
        # Of a lane that is to be compacted nobody knows yet how many jobs it will have: many lanes rather than one.
        per_lane = max(1, jobs // room) if self._spec.conflate else jobs
        taken = None
        if self._rates.limited:
            # One job of each lane at a time, so that every team has its turn at a scarce rate.
            taken = self._rates.take(min(jobs, room))
            jobs, per_lane = taken.granted, 1
            if jobs == 0 and taken.wait_ms > 0:
                # Only a claim takes the bell down, so for whoever only looks at the lanes one is on its way until it is
                # taken for lost: a handler of one call a second would make one in two or three.
                self._later(taken.wait_ms, within=RATE_BELL)
                return None
        claim = self._store.claim(lanes=room, jobs=jobs, per_lane=per_lane)
        if taken is not None:
            self._rates.claimed(claim, taken)
        return claim

    def _for_batches(self, executor: BatchExecutor, active: Sequence[ActiveLane], most: int) -> Claim | None:
        """What fills the calls that could begin now; one call, if there is a rate, for it counts calls."""
        lingering = self._process.lingering.lanes(self._spec.name)
        size = min(most, executor.size)
        calls = min(executor.free() - lingering // executor.size, max(1, most // size))
        if calls <= 0 and lingering and not active:
            self._process.lingering.refuse(self._spec.name, self._partition, self._ring)
        # A lane that lost its process goes through one call alone, so that no other is held to blame for the next loss.
        if calls <= 0 or any(lane.claimed.careful for lane in active) or self._busy(executor, active):
            return None
        wait = self._store.fill(size, int(self._spec.batch_wait * 1000)) if size > 1 and self._spec.batch_wait else 0
        taken = None
        if not wait and self._rates.limited:
            taken = self._rates.take(1)
            calls, wait = taken.granted, 0 if taken.granted else taken.wait_ms
        if wait:
            self._later(wait, within=max(RATE_BELL, self._spec.batch_wait + 1))
            return None
        jobs = size * calls
        if self._spec.conflate and taken is None and size > 1:
            jobs = min(jobs * BEFORE_CONFLATION, MOST_CLAIM)  # or, of lanes that have backed up, little would be left
        claim = self._store.claim(lanes=max(1, jobs), jobs=jobs, per_lane=size)
        if taken is not None:
            self._rates.claimed(claim, taken, calls=1 if claim.lanes else 0)
        return claim

    def _busy(self, executor: Executor, active: Sequence[ActiveLane]) -> bool:
        """Whether there are calls to wait for first: one after another, or too soon after the last look."""
        return bool(active) and (not executor.parallel or time.monotonic() < self._look_at)

    def _later(self, wait_ms: int, *, within: float) -> None:
        self._look_at = time.monotonic() + min(wait_ms / 1000, CLAIM_AGAIN)
        self._ring_in(wait_ms, within=within)

    def _ring_in(self, milliseconds: int, *, within: float = PERIOD) -> None:
        """What is due before the sweeper would look gets a bell of its own."""
        if milliseconds < within * 1000:
            delay = max(0.001, (milliseconds + 1) / 1000)
            self._process.bells.runner(self._spec.name, self._spec.queue, self._partition, delay=delay)
