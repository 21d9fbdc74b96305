"""Tells a handler's gate how calls have ended, and what became of a probe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from worker.core.batches import blames_one
from worker.core.breaker import Admission, Probe, Verdict, Wait
from worker.core.handlers import HandlerSpec
from worker.runtime.calls import ActiveLane
from worker.runtime.gate import Gate
from worker.runtime.keeper import Held
from worker.runtime.outcomes import excusable

HANGS: Final = "CallHangs"  # what is told of a call that did not end in its time, nor let itself be interrupted


class Reports:
    """Of one run. ``probe`` is the one that is ours, from before its claim until its lane has ended."""

    def __init__(self, gate: Gate, spec: HandlerSpec, held: Held) -> None:
        self._gate = gate
        self._spec = spec
        self._held = held
        self.probe: Probe | None = None

    def ask(self, *, probe: bool) -> Admission:
        """Whether calls may begin; ``probe``: one alone would do."""
        return Wait(None) if self.probe is not None else self._gate.ask(probe=probe)

    def keep(self, probe: Probe) -> None:
        """Keep the probe's lease with its lane's."""
        self._held.also = partial(self._gate.renew, probe.token)

    def rest(self) -> None:
        """The run is over."""
        self._gate.rest()

    def tell(self, seen: Sequence[tuple[ActiveLane, bool]]) -> int | None:
        """Tell the gate how calls have ended. While its circuit is not closed: how long failed lanes stay away, ms."""
        if self._spec.breaker is None:
            return None
        if self.probe is not None:
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
            return self.conclude(Verdict.NEITHER)
        ((lane, finished),) = seen
        if not finished and not lane.lost:
            return None
        if not finished:
            return self.conclude(Verdict.BAD, lane, HANGS)
        if lane.failed is not None:
            verdict = Verdict.BAD if excusable(lane.failed.failure) else Verdict.NEITHER
            return self.conclude(verdict, lane, lane.failed.error)
        return self.conclude(Verdict.GOOD if lane.done + lane.declined else Verdict.NEITHER, lane)

    def conclude(self, verdict: Verdict, lane: ActiveLane | None = None, error: str = "") -> int | None:
        """The probe has ended. While the circuit is not closed: how long its lane stays away, ms."""
        probe, self.probe, self._held.also = self.probe, None, None
        if probe is None:
            return None
        return self._gate.conclude(probe.token, verdict, team="" if lane is None else _team(lane), error=error)


def _team(lane: ActiveLane) -> str:
    return lane.claimed.jobs[0].team
