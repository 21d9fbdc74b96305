"""Keeps the leases of claimed lanes while their jobs run: one thread per process, one script call per run and second.

A lease is short, so that a crash delays its lanes by seconds, and calls may be long; so somebody has to say "still
here" meanwhile. It stops saying so for a call that overran its time limit and could not be interrupted: its lane goes
to others, and what it settles in the end is refused by its token. Lanes that wait in line behind a slow call are handed
back as soon as it is known to be slow, and those that ended before it are settled: others may have a process for them.

And it is who gives everything back when the process has to end (runtime/shutdown.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from worker.errors import StoreError
from worker.runtime.calls import ActiveLane
from worker.runtime.verdict import standing
from worker.store.lanes import LaneStore, lease_end

PERIOD: Final = 1.0  # seconds; a lease outlives three missed renewals
SLOW: Final = 1.0  # seconds that a call may take before lanes that were claimed with its own are handed back
GRACE: Final = 2.0  # seconds over the time limit in which an interrupted call may still end by itself

log = structlog.get_logger("handoff.keeper")


class Held:
    """The lanes of one run, as the keeper sees them."""

    def __init__(
        self,
        store: LaneStore,
        handler: str,
        timeout: float,
        *,
        parallel: bool,
        hand_back: Callable[[Sequence[ActiveLane]], None] | None = None,
        let_go: Callable[[], None] | None = None,
        abandon: Callable[[Sequence[ActiveLane]], None] | None = None,
    ) -> None:
        """``hand_back`` gives lanes back that were not begun; ``let_go`` cuts calls off; ``abandon`` gives lanes back
        whose calls can't be."""
        self.store = store
        self.handler = handler
        self.timeout = timeout
        self.parallel = parallel
        self.lanes: Sequence[ActiveLane] = ()
        self.overran = False
        self.also: Callable[[], None] | None = None  # what else is to be renewed while any lane is
        self.meanwhile: Callable[[], None] | None = None  # what to do each time that the line waits for a slow call
        self._hand_back = hand_back
        self._let_go = let_go
        self._abandon = abandon

    def leave(self) -> None:
        """Let no job begin any more, and hand back the lanes of which none did. May be called again."""
        lanes = [lane for lane in self.lanes if not (lane.finished or lane.returned)]
        for lane in lanes:
            lane.stop = True
        if self._hand_back is not None:
            self._return([lane for lane in lanes if not lane.touched], self._hand_back)

    def let_go(self) -> None:
        """Cut the calls off that are running."""
        if self._let_go is not None:
            self._let_go()

    def abandon(self) -> bool:
        """Hand back lanes whose calls were cut off and go on all the same; whether there are any."""
        lanes = [lane for lane in self.lanes if not (lane.finished or lane.returned or lane.lost)]
        for lane in lanes:
            lane.stop = lane.lost = True
        if lanes and self._abandon is not None:
            self._abandon(lanes)
        return bool(lanes)

    def renew(self) -> None:
        now = time.monotonic()
        lanes = [lane for lane in self.lanes if not (lane.finished or lane.returned)]
        if not self.parallel and self._hand_back is not None:
            lanes = self._without_line(lanes, now, self._hand_back)
        overrun = [lane for lane in lanes if now - self._since(lane, now) > self.timeout + GRACE]
        if overrun and not self.overran:
            self.overran = True
            log.error(
                "handler_overrun",
                handler=self.handler,
                lanes=[lane.claimed.lane for lane in overrun],
                where=sorted({standing(lane.thread) for lane in overrun} - {""}),
            )
        if overrun and self._hand_back is not None:
            # What has not begun because the event loop is blocked has nothing to do with that.
            self._return([lane for lane in overrun if not lane.touched], self._hand_back)
        stuck = overrun if self.parallel or not overrun else lanes
        for lane in stuck:
            if not lane.returned:
                lane.stop = lane.lost = True
        kept = [lane for lane in lanes if not (lane.lost or lane.returned)]
        if not kept:
            return
        until = lease_end()
        lost = set(self.store.renew((lane.token, lane.claimed.lane) for lane in kept))
        for lane in kept:
            if lane.claimed.lane not in lost:
                lane.until = until
            elif not lane.finished:
                lane.stop = lane.lost = True
        if (also := self.also) is not None:
            also()

    def _without_line(
        self, lanes: list[ActiveLane], now: float, hand_back: Callable[[Sequence[ActiveLane]], None]
    ) -> list[ActiveLane]:
        """The lanes but for those that wait behind a slow call, which are handed back."""
        if not any(lane.started and now - lane.started > SLOW for lane in lanes):
            return lanes
        self._return([lane for lane in lanes if not lane.touched], hand_back)
        if self.meanwhile is not None:
            self.meanwhile()
        return [lane for lane in lanes if not lane.returned]

    def _return(self, lanes: list[ActiveLane], hand_back: Callable[[Sequence[ActiveLane]], None]) -> None:
        waiting = [lane for lane in lanes if lane.untouched()]
        for lane in waiting:
            lane.returned = True
        if waiting:
            hand_back(waiting)

    def _since(self, lane: ActiveLane, now: float) -> float:
        """When its present call began; or should have, where no lane waits for another."""
        return lane.started or (lane.taken if self.parallel and not lane.touched else now)


class Keeper:
    """Renews what is registered with it. Its thread starts with a run, and ends when it finds none: an idle process has
    nobody who wakes up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[Held] = []
        self._thread: threading.Thread | None = None

    def add(self, held: Held) -> None:
        with self._lock:
            self._runs.append(held)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, daemon=True, name="handoff-keeper")
                self._thread.start()

    def remove(self, held: Held) -> None:
        with self._lock:
            self._runs.remove(held)

    def leave(self) -> None:
        """Let no job begin any more, and hand back the lanes of which none did."""
        self._each(Held.leave)

    def let_go(self) -> None:
        """Cut the calls off that are running."""
        self._each(Held.let_go)

    def abandon(self) -> bool:
        """Hand back the lanes of calls that go on all the same; whether there are any."""
        return any(self._each(Held.abandon))

    def _each(self, step: Callable[[Held], object]) -> list[object]:
        with self._lock:
            runs = list(self._runs)
        found: list[object] = []
        for held in runs:
            try:
                found.append(step(held))
            except StoreError as error:
                log.warning("not_handed_back", handler=held.handler, error=str(error))
                found.append(True)
        return found

    def _keep(self) -> None:
        pause = threading.Event()
        while not pause.wait(PERIOD):
            with self._lock:
                runs = list(self._runs)
                if not runs:
                    self._thread = None
                    return
            for held in runs:
                try:
                    held.renew()
                except StoreError as error:
                    # The lease has time for another try or two; then the lanes are somebody else's, and safe.
                    log.warning("renewal_failed", handler=held.handler, error=str(error))
                except Exception:
                    log.exception("renewal_failed", handler=held.handler)
