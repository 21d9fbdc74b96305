"""Answers a runner's doorbell: claims ready lanes of one handler in one partition, has their jobs run, settles them.

    claim ─▶ execute ─▶ settle ─┬▶ claim ...      until no lane is ready, or the time slice is over
                                └▶ ring again     when the slice is over

Before it claims, it asks the handler's gate (gate.py): of a paused handler nothing is claimed, of one whose far side is
down one job at most, as a probe.

Finished jobs are settled in small groups, so a crash repeats few of them. The size of a claim follows the speed of the
handler: what is claimed waits its turn here and nowhere else, so a slow handler claims little.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import structlog

from worker.core.batches import blames_one
from worker.core.breaker import Admission, Closed, Probe, Verdict, Wait
from worker.core.handlers import HandlerSpec
from worker.errors import StoreUnavailable
from worker.runtime.alone import Alone
from worker.runtime.batch_executors import BatchExecutor, batch_executor_for
from worker.runtime.batch_outcomes import settle_batch
from worker.runtime.calls import ActiveLane
from worker.runtime.executors import Executor, executor_for, leaving, replaceable
from worker.runtime.fitness import fit
from worker.runtime.keeper import Held
from worker.runtime.outcomes import excusable, settlement_of, unstartable
from worker.runtime.process import Process
from worker.runtime.rates import Rates, lane_store
from worker.runtime.sweeper import PERIOD
from worker.store.lanes import Claim, Settlement

SLICE: Final = 1.0  # seconds; then other partitions and handlers get their turn
PATIENCE: Final = 1.0  # seconds for calls to end by themselves after that; then those that can go on without us
INLINE_SLICE: Final = 0.25
"""Seconds; where calls are made one after another nothing has to run out first, and whatever waits for a process, such
as the sequencer with another team's only event, is not behind whole seconds of one team's thousands."""
FIRST_CLAIM: Final = 1  # jobs; how many a handler can take is found out, once per process
MOST_CLAIM: Final = 1024
CLAIM_SECONDS: Final = 0.1  # the work that a claim of a plain handler should amount to
BEFORE_CONFLATION: Final = 4  # times as many jobs are claimed for a batch as it has room for
CLAIM_AGAIN: Final = 0.1  # seconds between looks for new lanes while others are still running
HANGS: Final = "CallHangs"  # what is told of a call that did not end in its time, nor let itself be interrupted
RATE_BELL: Final = 5.0  # seconds; a rate that frees a call within them gets a bell of its own, for exactly then

log = structlog.get_logger("handoff.runner")


class Runner:
    """One answer to one doorbell."""

    def __init__(self, process: Process, spec: HandlerSpec, partition: int) -> None:
        self._process = process
        self._spec = spec
        self._partition = partition
        self._store = lane_store(process, spec, partition)
        self._gate = process.gate(spec)
        self._probe: Probe | None = None  # the one that is ours, from before its claim until its lane has ended
        self._batches = batch_executor_for(spec) if spec.batch else None
        self._executor: Executor = self._batches or executor_for(spec)
        self._rates = Rates(process, spec, partition, parallel=self._executor.parallel)
        self._alone = Alone(spec, self._executor)
        self._held = Held(
            self._store, spec.name, spec.timeout, parallel=self._executor.parallel, hand_back=self._hand_back
        )
        self._active: list[ActiveLane] = []
        self._given_up = 0  # lanes whose call hangs, and holds a place in the executor for nobody knows how long
        self._size = process.claim_sizes.get(spec.name, FIRST_CLAIM)
        self._asked_for_help = False
        self._left = False  # to go on without a place in the pool
        self._look_at = 0.0  # when to look for new lanes, monotonic seconds

    def run(self) -> int:
        """Run lanes until none is ready or the slice is over; the number of jobs that ended.

        Raises nothing but ``SystemExit``, in a process that has to end: the pool said so, or its event loop is blocked.
        """
        if not fit(self._process, self._spec.name, self._executor):
            if replaceable():
                raise SystemExit(1)
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
            self._process.claim_sizes[self._spec.name] = self._size
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

    @property
    def handler(self) -> str:
        return self._spec.name

    @property
    def lanes(self) -> int:
        return len(self._active) if self._batches is None else self._batches.running * self._batches.size

    def linger(self) -> bool:
        """Settle what has ended since the run was left (runtime/lingering.py); whether that was all."""
        try:
            self._settle()
            if not self._active:
                self._gate.rest()
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

    def _rounds(self) -> Sequence[int]:
        counts = []
        end = time.monotonic() + (SLICE if self._executor.parallel else min(SLICE, INLINE_SLICE))
        over = False
        while True:
            admission = self._ask()
            if not over and not self._claim(admission) and not self._active:
                break
            self._alone.next(self._active, self._process.lingering.lanes(self._spec.name))
            began = time.monotonic()
            self._executor.wait()
            counts.append(self._settle())
            now = time.monotonic()
            self._adapt(counts[-1], now - began)
            over = over or now >= end or leaving()
            if over:
                self._alone.stop(self._active, at_once=leaving())
            # Calls in coroutines and threads can go on without us; Celery's place is not theirs to keep.
            self._left = (
                over
                and self._executor.parallel
                and now >= end + PATIENCE
                and not (leaving() or self._probe is not None or any(lane.alone for lane in self._active))
            )
            if over and (self._left or not self._active):
                self.ring()
                break
        self._gate.rest()
        if leaving():
            raise SystemExit(0)  # as was asked for in the middle of a call
        return counts

    def _ask(self) -> Admission:
        """Whether calls may begin. What has not begun yet is let go if they may not."""
        if self._probe is not None:
            return Wait(None)
        # A probe has to be alone: how the others end, which began before, says less.
        admission = self._gate.ask(probe=not self._active)
        if isinstance(admission, Wait):
            self._alone.stop(self._active, at_once=True)
        return admission

    def _claim(self, admission: Admission) -> bool:
        """Look for ready lanes if calls may begin and there is room for them; whether any came."""
        if isinstance(admission, Wait):
            return False
        if isinstance(admission, Closed):
            return self._claim_up_to(self._executor.lanes, MOST_CLAIM)
        self._probe = admission
        came = self._claim_up_to(1, 1)
        if self._active:
            self._held.also = partial(self._gate.renew, admission.token)
        else:
            self._conclude(Verdict.NEITHER)
        return came

    def _claim_up_to(self, lanes: int, most: int) -> bool:
        executor, active = self._executor, self._active
        if any(lane.alone for lane in active):
            return False
        lingering = self._process.lingering.lanes(self._spec.name)
        if self._batches is not None:
            return self._claim_batches(self._batches, most, lingering)
        room = min(lanes, executor.lanes - len(active) - self._given_up - lingering)
        if room <= 0 and lingering and not active:
            self._process.lingering.refuse(self._spec.name, self._partition, self.ring)
        # Lanes that would only wait in line here are better claimed by somebody else, when the line is empty.
        if room <= 0 or (active and (not executor.parallel or time.monotonic() < self._look_at)):
            return False
        jobs = most if executor.parallel else min(most, self._size)
        # Of a lane that is to be compacted nobody knows yet how many jobs it will have: many lanes rather than one.
        per_lane = max(1, jobs // room) if self._spec.conflate else jobs
        taken = None
        if self._rates.limited:
            # One job of each lane at a time, so that every team has its turn at a scarce rate.
            taken = self._rates.take(min(jobs, room))
            jobs, wait, per_lane = taken.granted, taken.wait_ms, 1
            if jobs == 0 and wait > 0:
                self._look_at = time.monotonic() + min(wait / 1000, CLAIM_AGAIN)
                # Only a claim takes the bell down, so for whoever only looks at the lanes one is on its way until it is
                # taken for lost: a handler of one call a second would make one in two or three.
                self._ring_in(wait, within=RATE_BELL)
                return False
        claim = self._store.claim(lanes=room, jobs=jobs, per_lane=per_lane)
        if taken is not None:
            self._rates.claimed(claim, taken)
        return self._take_on(claim)

    def _claim_batches(self, executor: BatchExecutor, most: int, lingering: int) -> bool:
        """Look for what fills the calls that could begin now; for one, if there is a rate, for it counts calls."""
        size, active = min(most, executor.size), self._active
        calls = min(executor.free() - lingering // executor.size, max(1, most // size))
        if calls <= 0 and lingering and not active:
            self._process.lingering.refuse(self._spec.name, self._partition, self.ring)
        # A lane that lost its process goes through one call alone, so that no other is held to blame for the next loss.
        if calls <= 0 or any(lane.claimed.careful for lane in active):
            return False
        if active and (not executor.parallel or time.monotonic() < self._look_at):
            return False
        wait = self._store.fill(size, int(self._spec.batch_wait * 1000)) if size > 1 and self._spec.batch_wait else 0
        taken = None
        if not wait and self._rates.limited:
            taken = self._rates.take(1)
            calls, wait = taken.granted, 0 if taken.granted else taken.wait_ms
        if wait:
            self._look_at = time.monotonic() + min(wait / 1000, CLAIM_AGAIN)
            self._ring_in(wait, within=max(RATE_BELL, self._spec.batch_wait + 1))
            return False
        jobs = size * calls
        if self._spec.conflate and taken is None and size > 1:
            jobs = min(jobs * BEFORE_CONFLATION, MOST_CLAIM)  # or, of lanes that have backed up, little would be left
        claim = self._store.claim(lanes=max(1, jobs), jobs=jobs, per_lane=size)
        if taken is not None:
            self._rates.claimed(claim, taken, calls=1 if claim.lanes else 0)
        return self._take_on(claim)

    def _take_on(self, claim: Claim) -> bool:
        """Begin with what was claimed; whether that is anything."""
        active = self._active
        self._look_at = 0.0 if claim.more else time.monotonic() + CLAIM_AGAIN
        begun = self._begin(claim)
        if claim.dropped and not begun:
            self._size = min(self._size * 4, MOST_CLAIM)  # conflation left nothing to do: it costs the handler no time
        self._alone.start(begun)
        active += begun
        self._held.lanes = tuple(active)
        if claim.more and not self._asked_for_help and self._probe is None:
            self._asked_for_help = True
            self.ring()
        if not claim.lanes and claim.next_due is not None:
            self._ring_in(claim.next_due - claim.now)
        return bool(claim.lanes) or (bool(claim.dropped) and claim.more)

    def _ring_in(self, milliseconds: int, *, within: float = PERIOD) -> None:
        """What is due before the sweeper would look gets a bell of its own."""
        if milliseconds < within * 1000:
            delay = max(0.001, (milliseconds + 1) / 1000)
            self._process.bells.runner(self._spec.name, self._spec.queue, self._partition, delay=delay)

    def _begin(self, claim: Claim) -> list[ActiveLane]:
        """The claimed lanes that can be run; those that can't are settled at once."""
        lanes, hopeless = [], []
        for claimed in claim.lanes:
            settlement = unstartable(claimed, claim, self._spec)
            if settlement is None:
                lanes.append(ActiveLane(claimed, claim.token))
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
        settlements: list[Settlement] = []
        going: list[ActiveLane] = []
        back = [lane for lane in self._active if lane.returned]
        unmade = [(lane.token, lane.claimed.lane) for lane in back]
        # Whether a lane is finished is read before its counts: it is written after them.
        seen = [(lane, lane.finished) for lane in self._active if lane not in back]
        away_ms = self._tell(seen)
        for lane, finished in seen:
            if lane.lost and not finished:
                self._given_up += 1
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
            self._look_at = 0.0
        self._active[:] = going
        self._held.lanes = tuple(going)
        return sum(item.leaving for item in settlements if item.lane in kept)

    def _tell(self, seen: Sequence[tuple[ActiveLane, bool]]) -> int | None:
        """Tell the gate how calls have ended. While its circuit is not closed: how long failed lanes stay away, ms."""
        if self._spec.breaker is None:
            return None
        if self._probe is not None:
            return self._tell_probe(seen)
        failures = 0
        for lane, finished in seen:
            if finished and lane.failed is not None:
                failure = lane.failed.failure
                # Of a call that is to be made again one by one, nobody knows yet whose failure it was.
                if excusable(failure) and not (lane.together and blames_one(failure)):
                    failures += 1
                    self._gate.failure(_team(lane), lane.failed.error, outage=failure.outage)
            elif lane.lost and not finished and lane.started:
                failures += 1
                self._gate.failure(_team(lane), HANGS, outage=True)
        # Of what ended at once nobody knows the order. That the good came last is the far side's benefit of the doubt.
        for lane, _ in seen:
            good = lane.done + lane.declined - lane.told
            if good > 0:
                lane.told += good
                self._gate.success(_team(lane), good)
        return self._gate.tell() if failures else None

    def _tell_probe(self, seen: Sequence[tuple[ActiveLane, bool]]) -> int | None:
        """What became of the probe, once it has ended."""
        if not seen:  # handed back
            return self._conclude(Verdict.NEITHER)
        ((lane, finished),) = seen
        if not finished and not lane.lost:
            return None
        if not finished:
            return self._conclude(Verdict.BAD, lane, HANGS)
        if lane.failed is not None:
            verdict = Verdict.BAD if excusable(lane.failed.failure) else Verdict.NEITHER
            return self._conclude(verdict, lane, lane.failed.error)
        return self._conclude(Verdict.GOOD if lane.done + lane.declined else Verdict.NEITHER, lane)

    def _conclude(self, verdict: Verdict, lane: ActiveLane | None = None, error: str = "") -> int | None:
        probe, self._probe, self._held.also = self._probe, None, None
        if probe is None:
            return None
        return self._gate.conclude(probe.token, verdict, team="" if lane is None else _team(lane), error=error)

    def _adapt(self, count: int, elapsed: float) -> None:
        """Claim about as much as the handler does in CLAIM_SECONDS, but never grow by more than four at a time. A call
        that fails slowly counts too: what is claimed with the next one would wait behind it just as long."""
        if count or elapsed > CLAIM_SECONDS:
            fitting = int(max(count, 1) * CLAIM_SECONDS / max(elapsed, 1e-6))
            self._size = max(1, min(fitting, self._size * 4, MOST_CLAIM))


def _team(lane: ActiveLane) -> str:
    return lane.claimed.jobs[0].team
