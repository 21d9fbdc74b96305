"""Answers a runner's doorbell: claims ready lanes of one handler in one partition, has their jobs run, settles them.

    claim ─▶ execute ─▶ settle ─┬▶ claim ...      until no lane is ready, or the time slice is over
                                └▶ ring again     when the slice is over

Before it claims, it asks the handler's gate (gate.py): of a paused handler nothing is claimed, of one whose far side is
down one job at most, as a probe.

Finished jobs are settled in small groups, so a crash repeats few of them. The size of a claim follows the speed of the
handler: what is claimed waits its turn here and nowhere else, so a slow handler claims little.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from worker.core.breaker import Admission, Closed, Verdict, Wait
from worker.core.handlers import HandlerSpec
from worker.errors import StoreUnavailable
from worker.runtime.alone import Alone
from worker.runtime.batch_executors import batch_executor_for
from worker.runtime.batch_outcomes import settle_batch
from worker.runtime.calls import ActiveLane
from worker.runtime.claiming import Claimer
from worker.runtime.executors import Executor, executor_for, leaving
from worker.runtime.fitness import fit_to_run
from worker.runtime.keeper import Held
from worker.runtime.meanwhile import Meanwhile
from worker.runtime.outcomes import settlement_of, unstartable
from worker.runtime.process import Process
from worker.runtime.rates import Rates, lane_store
from worker.runtime.reports import Reports
from worker.runtime.shutdown import KEPT
from worker.store.lanes import Claim, Settlement

SLICE: Final = 1.0  # seconds; then other partitions and handlers get their turn
PATIENCE: Final = 1.0  # seconds for calls to end by themselves after that; then those that can go on without us
INLINE_SLICE: Final = 0.25
"""Seconds; where calls are made one after another nothing has to run out first, and whatever waits for a process, such
as the sequencer with another team's only event, is not behind whole seconds of one team's thousands."""

log = structlog.get_logger("handoff.runner")


class Runner:
    """One answer to one doorbell."""

    def __init__(self, process: Process, spec: HandlerSpec, partition: int) -> None:
        self._process = process
        self._spec = spec
        self._partition = partition
        self._store = lane_store(process, spec, partition)
        self._batches = batch_executor_for(spec) if spec.batch else None
        self._executor: Executor = self._batches or executor_for(spec)
        self._rates = Rates(process, spec, partition, parallel=self._executor.parallel)
        self._alone = Alone(spec, self._executor)
        self._held = Held(
            self._store,
            spec.name,
            spec.timeout,
            parallel=self._executor.parallel,
            hand_back=self._hand_back,
            let_go=self._executor.cut_off,
            abandon=self._abandon,
        )
        self._meanwhile = Meanwhile(self._executor, self._settle, self.ring)
        self._held.meanwhile = self._meanwhile.settle
        self._reports = Reports(process.gate(spec), spec, self._held)
        self._claimer = Claimer(
            process, spec, partition, store=self._store, rates=self._rates, executor=self._executor, ring=self.ring
        )
        self._active: list[ActiveLane] = []
        self._settling = threading.Lock()  # or what has ended could be counted by two, and written twice
        self._left = False  # to go on without a place in the pool

    def run(self) -> int:
        """Run lanes until none is ready or the slice is over; the number of jobs that ended.

        Raises nothing but ``SystemExit``, in a process that has to end: the pool said so, or its event loop is blocked.
        """
        if self._process.shutdown.asked:
            self.ring()  # for another worker
            return 0
        if not fit_to_run(self._process, self._spec, self._executor):
            return 0
        self._process.keeper.add(self._held)
        ended = 0
        try:
            for count in self._rounds():
                ended += count
        except StoreUnavailable as error:
            # Claimed lanes are free again when their leases run out; jobs that ended unsettled are run once more.
            log.warning("runner_store_unavailable", handler=self._spec.name, error=str(error))
        finally:
            self._claimer.remember()
            if self._left:
                self._process.lingering.add(self)
            else:
                self._end()
        return ended

    def _end(self) -> None:
        for lane in self._active:
            lane.stop = True
        self._process.keeper.remove(self._held)
        self._executor.close()

    def poke(self) -> None:
        """There may be new lanes: look now. From any thread."""
        self._claimer.freed()
        self._executor.wake()
        if self.careful:
            self._claimer.pass_on()

    @property
    def handler(self) -> str:
        return self._spec.name

    @property
    def lanes(self) -> int:
        return len(self._active) if self._batches is None else self._batches.running * self._batches.size

    @property
    def running(self) -> int:
        return len(self._active) - self._alone.waiting

    @property
    def careful(self) -> bool:
        return any(lane.alone for lane in list(self._active))

    def linger(self) -> bool:
        """Settle what has ended since the run was left (runtime/lingering.py); whether that was all."""
        try:
            self._settle()
            if not self._active:
                self._reports.rest()
        except StoreUnavailable as error:
            log.warning("runner_store_unavailable", handler=self._spec.name, error=str(error))
        else:
            if self._active:
                return False
        self._end()
        return True

    def ring(self) -> None:
        self._process.bells.runner(self._spec.name, self._spec.queue, self._partition)

    def _hand_back(self, lanes: Sequence[ActiveLane]) -> None:
        """Lanes that wait behind a slow call, for anyone else to take. Called by the keeper's thread."""
        settlements = [settlement_of(lane, finished=True, spec=self._spec) for lane in lanes]
        self._store.settle([item for item in settlements if item is not None])
        self.ring()

    def _abandon(self, lanes: Sequence[ActiveLane]) -> None:
        """Lanes whose calls go on until the process is gone, for anyone else to take then. Called by another thread."""
        for lane in lanes:
            lane.cut = True
        with self._settling:
            settlements = [self._settlement_of(lane, finished=True, away_ms=None) for lane in lanes]
            self._store.settle([replace(item, delay_ms=int(KEPT * 1000)) for item in settlements if item is not None])
        self._process.bells.runner(self._spec.name, self._spec.queue, self._partition, delay=KEPT)

    def _rounds(self) -> Sequence[int]:
        counts = []
        end = time.monotonic() + (SLICE if self._executor.parallel else min(SLICE, INLINE_SLICE))
        over = False
        failure: StoreUnavailable | None = None
        while True:
            if failure is None:
                try:
                    admission = self._ask()
                    if not over and not self._claim(admission) and not self._active:
                        break
                except StoreUnavailable as error:
                    failure, over = error, True
                    log.warning("claim_failed", handler=self._spec.name, partition=self._partition, error=str(error))
            if failure is not None and not self._safe():
                raise failure
            self._next_alone()
            began = time.monotonic()
            self._meanwhile.wait()
            counts.append(self._settle())
            now = time.monotonic()
            self._claimer.adapt(counts[-1], now - began)
            ending = leaving() or self._process.shutdown.asked
            over = over or now >= end or ending
            if over:
                self._alone.stop(self._active, at_once=ending)
            # Calls in coroutines and threads can go on without us; Celery's place is not theirs to keep.
            self._left = (
                over
                and self._executor.parallel
                and now >= end + PATIENCE
                and not (leaving() or self._reports.probe is not None or any(lane.alone for lane in self._active))
            )
            if over and (self._left or not self._active):
                self.ring()
                break
        self._reports.rest()
        if leaving():
            raise SystemExit(0)  # as was asked for in the middle of a call
        return counts

    def _safe(self) -> bool:
        """Whether there are lanes in hand, and their leases hold. Their calls are not cut off because the state server,
        or the one of several that has the rates, does not answer who asks for more: they may well be written down."""
        return bool(self._active) and time.monotonic() < min(lane.until for lane in self._active)

    def _next_alone(self) -> None:
        """Start the next job that has to be tried with no other of its handler beside it, if it is its turn."""
        if self._alone.waiting:
            with self._process.side_runs.places(self._spec.name):
                beside = self._process.side_runs.running(self._spec.name, self._partition)
                self._alone.next(self._active, beside + self._process.lingering.lanes(self._spec.name))

    def _ask(self) -> Admission:
        """Whether calls may begin. What has not begun yet is let go if they may not."""
        # A probe has to be alone: how the others end, which began before, says less.
        admission = self._reports.ask(probe=not self._active)
        if isinstance(admission, Wait):
            self._alone.stop(self._active, at_once=True)
        return admission

    def _claim(self, admission: Admission) -> bool:
        """Look for ready lanes if calls may begin and there is room for them; whether any came."""
        if isinstance(admission, Wait):
            return False
        if isinstance(admission, Closed):
            with self._process.side_runs.places(self._spec.name):
                return self._take_on(self._claimer.claim(self._active, one=False))
        self._reports.probe = admission
        came = self._take_on(self._claimer.claim(self._active, one=True))
        if self._active:
            self._reports.keep(admission)
        else:
            self._reports.conclude(Verdict.NEITHER)
        return came

    def _take_on(self, claim: Claim | None) -> bool:
        """Begin with what was claimed; whether that is anything."""
        if claim is None:
            return False
        begun = self._begin(claim)
        self._alone.start(begun)
        self._active += begun
        self._held.lanes = tuple(self._active)
        if self._process.shutdown.asked:  # in between: read after the lanes are there to be seen by whoever set it
            self._held.leave()
        self._claimer.begun(claim, len(begun), help_wanted=self._reports.probe is None)
        return bool(claim.lanes) or (bool(claim.dropped) and claim.more)

    def _begin(self, claim: Claim) -> list[ActiveLane]:
        """The claimed lanes that can be run; those that can't are settled at once."""
        lanes, hopeless = [], []
        for claimed in claim.lanes:
            settlement = unstartable(claimed, claim, self._spec)
            if settlement is None:
                lanes.append(ActiveLane(claimed, claim.token, claim.until))
            else:
                hopeless.append(settlement)
        if hopeless:
            settled = self._store.settle(hopeless)
            self._give_back((item.token, item.lane) for item in hopeless if item.lane in settled)
        return lanes

    def _give_back(self, unmade: Iterable[tuple[int, str]]) -> None:
        """Calls that were granted to lanes, each with its token, and will certainly not be made by us."""
        # A batch's call was granted to many lanes: whether all of them come back is not known here.
        if self._rates.limited and self._batches is None:
            self._rates.unmade(unmade)

    def _settlement_of(self, lane: ActiveLane, *, finished: bool, away_ms: int | None) -> Settlement | None:
        if self._batches is None or (finished and not lane.touched):
            return settlement_of(lane, finished=finished, spec=self._spec, away_ms=away_ms)
        return settle_batch(lane, finished=finished, spec=self._spec, away_ms=away_ms)

    def _settle(self) -> int:
        """Write what has ended since the last time; the number of jobs that left their lanes."""
        with self._settling:
            return self._write()

    def _write(self) -> int:
        settlements: list[Settlement] = []
        going: list[ActiveLane] = []
        back = [lane for lane in self._active if lane.returned]
        unmade = [(lane.token, lane.claimed.lane) for lane in back]
        # Whether a lane is finished is read before its counts: it is written after them.
        seen = [(lane, lane.finished) for lane in self._active if lane not in back]
        away_ms = self._reports.tell(seen)
        for lane, finished in seen:
            if lane.lost and not finished:
                self._claimer.given_up += 1
                if lane.started:
                    self._process.hung.setdefault(self._spec.name, []).append(lane)
                continue
            item = self._settlement_of(lane, finished=finished, away_ms=away_ms)
            if item is not None:
                settlements.append(item)
                lane.settled = (lane.settled[0] + item.done, lane.settled[1] + item.discarded)
            if not finished:
                going.append(lane)
        kept: dict[str, bool] = {}
        if settlements:
            kept = dict(self._store.settle(settlements))
            lost = {item.lane for item in settlements if item.lane not in kept}
            if lost:
                log.warning("lanes_lost", handler=self._spec.name, partition=self._partition, lanes=len(lost))
                for lane in going:
                    lane.stop = lane.stop or lane.claimed.lane in lost
                going = [lane for lane in going if lane.claimed.lane not in lost]
            unmade += (
                (lane.token, lane.claimed.lane)
                for lane in self._active
                if lane.finished and not (lane.touched or lane.returned) and lane.claimed.lane in kept
            )
        self._give_back(unmade)
        if len(going) < len(self._active):
            self._claimer.freed()
        self._active[:] = going
        self._held.lanes = tuple(going)
        return sum(item.leaving for item in settlements if item.lane in kept)
