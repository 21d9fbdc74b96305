"""Starts the lanes of a run: side by side, but for those whose first job may be what killed processes.

Where lanes run side by side, a job that kills its process takes the calls of all others with it, and each is charged an
attempt. From its second loss on a job is tried with no other of its handler beside it: so only the one to blame goes on
killing, and no other becomes a dead letter for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.core.handlers import HandlerSpec
from worker.runtime.calls import ActiveLane
from worker.runtime.executors import Executor
from worker.runtime.outcomes import LOST_WORKER
from worker.store.lanes import ClaimedLane


def suspect(claimed: ClaimedLane, spec: HandlerSpec) -> bool:
    """Whether a lane's first job was lost with its process before, by a claim for which it was charged."""
    lost = claimed.crashed or (bool(claimed.failed) and claimed.failed[-1].error == LOST_WORKER)
    return lost and claimed.attempt >= min(2, spec.attempts)


class Alone:
    """The lanes of one run that wait until no other is active. Only for executors that are ``parallel``."""

    def __init__(self, spec: HandlerSpec, executor: Executor) -> None:
        self._spec = spec
        self._executor = executor
        self._waiting: list[ActiveLane] = []

    def start(self, begun: Sequence[ActiveLane]) -> None:
        """Start lanes that were claimed, or keep them until their turn."""
        for lane in begun:
            lane.alone = self._executor.parallel and suspect(lane.claimed, self._spec)
        self._waiting += [lane for lane in begun if lane.alone]
        self._executor.start([lane for lane in begun if not lane.alone])

    @property
    def waiting(self) -> int:
        """How many lanes wait for their turn."""
        return len(self._waiting)

    def next(self, active: Sequence[ActiveLane], beside: int) -> None:
        """Start the next lane that waits, if it would be the only one: of the run, and with none ``beside`` it."""
        self._waiting = [lane for lane in self._waiting if not (lane.lost or lane.returned)]
        if self._waiting and len(active) == len(self._waiting) and not beside:
            self._executor.start([self._waiting.pop(0)])

    def stop(self, active: Sequence[ActiveLane], *, at_once: bool) -> None:
        """Let no lane start another job; but for those that wait, who still get their turn, unless ``at_once``."""
        for lane in active:
            if not lane.alone:
                lane.stop = True
            elif at_once and lane in self._waiting:
                lane.stop = lane.finished = True
        if at_once:
            self._waiting.clear()
