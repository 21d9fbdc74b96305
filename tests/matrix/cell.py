"""Runs one cell and tells how long it took, or what became of the worker."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.matrix import rig as rigs
from tests.matrix.faults import FAULTS
from tests.matrix.rig import Rig
from tests.processes import until

POOLS: Final = ("prefork", "threads", "solo")
PROMISE: Final = 10.0  # seconds from when the server is back until jobs are done again, or the worker has left
PATIENCE: Final = 60.0  # seconds after which a worker counts as deaf for good
SLOW: Final = {"solo": 3.0}  # seconds of the job in flight: for so long a solo worker can do nothing else
USUAL: Final = 6.0


@dataclass(frozen=True)
class Result:
    """``seconds`` until the first job of an event stored after the fault was done; None: never. ``exits``: the exit
    codes of workers that left, each of which was started again. ``wrong``: what the checks at the end said."""

    fault: str
    pool: str
    kind: str
    seconds: float | None
    exits: tuple[int, ...] = ()
    left_after: float | None = None
    wrong: str = ""

    def kept(self, times: float = 1.0) -> bool:
        """The promise: back in time, or gone in time, and nothing lost, doubled or out of order. A test on a machine
        that has other things to do gives it ``times`` as long."""
        if self.wrong or self.seconds is None:
            return False
        return (self.left_after if self.left_after is not None else self.seconds) <= PROMISE * times

    def __str__(self) -> str:
        if self.seconds is None:
            return "SILENT"
        left = "".join(f" exit {code} at {self.left_after:.1f}" for code in self.exits)
        return f"{self.seconds:.1f}{left}{' WRONG' if self.wrong else ''}"


def run(fault: str, pool: str, kind: str, *, share: float = 1.0) -> Result:
    """One cell, on a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="handoff-matrix-") as folder,
        rigs.running(kind, pool, Path(folder)) as rig,
    ):
        slow = rig.feeder.slow(SLOW.get(pool, USUAL) * max(share, 0.5))
        until(lambda: rig.has_begun(slow), "the slow job is in flight", rigs.DEADLINE)
        FAULTS[fault](rig, share)
        back = time.monotonic()
        done, exits, left_after = _wait_for_work(rig, back)
        wrong = ""
        if done is not None:
            rig.feeder.stop()
            try:
                rig.wait_until_done()
                rig.check()
            except AssertionError as error:
                wrong = str(error)
            if not rig.workers[-1].running:
                exits.append(rig.workers[-1].wait())
                wrong = wrong or "the worker ended later"
        seconds = None if done is None else done - back
        return Result(fault, pool, kind, seconds, tuple(exits), left_after, wrong)


def _wait_for_work(rig: Rig, back: float) -> tuple[float | None, list[int], float | None]:
    """When work was done again, how workers ended meanwhile, and how long after the fault the first of them did."""
    exits: list[int] = []
    left_after = None
    while time.monotonic() < back + PATIENCE:
        worker = rig.workers[-1]
        if not worker.running:
            exits.append(worker.wait())
            left_after = max(0.0, time.monotonic() - back) if left_after is None else left_after
            rig.start_worker()
        if (done := rig.done_after(back)) is not None:
            return done, exits, left_after
        time.sleep(0.02)
    return None, exits, left_after
