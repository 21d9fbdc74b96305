"""Whether calls of a handler may begin: its circuit and its pausing, as one process sees them.

All processes share the answer through Redis, and each asks at most every quarter of a second (``FRESH``): that is how
long a call may still begin after another process found the far side down. Failures are told at once. Successes are
counted here and told with the next question, and only while some process has a failure in mind: a handler that works
costs one small round trip in that time, and no write.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from worker.core.breaker import (
    HEARD_MS,
    Admission,
    Breaker,
    Circuit,
    Closed,
    Outcomes,
    Probe,
    Verdict,
    Wait,
    admit,
    concluded,
    in_doubt,
    lane_ms,
    longest_row,
    mark,
    observe,
    renewed,
    wait_until,
)
from worker.store.control import Control, ControlStore
from worker.store.lanes import LEASE_MS

FRESH: Final = 0.25  # seconds that an answer is good for
TRIES: Final = 20  # to write a circuit that others write, too
FEW: Final = 8  # teams with a success that are told of: what matters is that there is one besides the failing

log = structlog.get_logger("handoff.breaker")


@dataclass(slots=True)
class Tally:
    """Ended calls that nobody was told of yet. Names of teams are made marks when they are told."""

    ok: int = 0
    outage: int = 0
    failed: int = 0
    row: int = 0
    failing: set[str] = field(default_factory=set)
    fine: set[str] = field(default_factory=set)
    error: str = ""

    def outcomes(self) -> Outcomes:
        failing, fine = frozenset(map(mark, self.failing)), frozenset(map(mark, self.fine))
        return Outcomes(self.ok, self.outage, self.failed, self.row, failing, fine, self.error)


class Gate:
    """The gate of one handler in one process, for all its runs. All methods may raise ``StoreUnavailable``."""

    def __init__(self, store: ControlStore, handler: str, policy: Breaker | None, *, attempts: int) -> None:
        self._store = store
        self._handler = handler
        self._policy = policy
        self._row = 0 if policy is None else longest_row(policy, attempts)
        self._lock = threading.Lock()
        self._tally = Tally()
        self._answer: Closed | Wait = Closed()
        self._look_at = 0.0  # monotonic seconds: when the answer has to be asked for again
        self._quiet = True

    def ask(self, *, probe: bool) -> Admission:
        """Whether a call may begin now. ``Probe``, if asked for: one job may be tried; ``conclude`` has to follow."""
        with self._lock:
            # That a probe could be had is good news only for one who did not want it.
            if time.monotonic() < self._look_at and not (probe and self._answer == Wait(0)):
                return self._answer
            control = self._tell()
            if not control.circuit.opened or control.paused is not None or self._policy is None:
                return self._answer
            token = uuid.uuid4().hex[:12]
            circuit, admission = admit(control.circuit, control.now, token=token, lease_ms=LEASE_MS)
            if not isinstance(admission, Probe):
                return self._answer
            if probe and self._store.swap(control, circuit):
                return admission
            return self._answer

    def success(self, team: str, count: int) -> None:
        """So many calls for a team ended well."""
        with self._lock:
            self._tally.ok += count
            self._tally.row = 0
            if len(self._tally.fine) < FEW:
                self._tally.fine.add(team)

    def failure(self, team: str, error: str, *, outage: bool) -> None:
        """A call for a team failed. ``tell`` has to follow."""
        with self._lock:
            tally = self._tally
            tally.outage += outage
            tally.failed += not outage
            tally.row += outage
            tally.failing.add(team)
            tally.fine.clear()  # what came before the failure does not speak against it
            tally.error = error

    def tell(self) -> int | None:
        """Tell what is known. If the circuit is not closed then, or about to open: how long a lane that failed stays
        away, ms."""
        with self._lock:
            return self._away(self._tell())

    def rest(self) -> None:
        """At the end of a run, tell of successes while they matter: the next run may be far off."""
        with self._lock:
            if self._tally.ok and not self._quiet:
                self._tell()

    def conclude(self, token: str, verdict: Verdict, *, team: str, error: str = "") -> int | None:
        """The probe named ``token`` has ended; answers as ``tell``."""
        with self._lock:
            policy = self._policy
            if policy is None:
                return None
            for _ in range(TRIES):
                control = self._store.read()
                circuit = concluded(
                    control.circuit, policy, verdict, control.now, token=token, team=mark(team), error=error
                )
                if circuit is control.circuit or self._store.swap(control, circuit):
                    break
            if circuit is not control.circuit:
                self._log_conclusion(control, circuit, verdict, error)
            self._note(replace(control, circuit=circuit))
            return self._away(replace(control, circuit=circuit))

    def renew(self, token: str) -> None:
        """The probe named ``token`` is still out."""
        for _ in range(TRIES):
            control = self._store.read()
            circuit = renewed(control.circuit, control.now, token=token, lease_ms=LEASE_MS)
            if circuit is control.circuit or self._store.swap(control, circuit):
                return

    def _tell(self) -> Control:
        tally, policy = self._tally, self._policy
        self._tally = Tally()
        for _ in range(TRIES):
            control = self._store.read()
            known = control.circuit
            if policy is None or known.opened or not (tally.ok or tally.failing):
                break
            if not tally.failing and known.quiet(policy, control.now):
                break
            circuit = observe(known, policy, tally.outcomes(), control.now, self._row)
            if self._store.swap(control, circuit):
                control = replace(control, version=control.version + 1, circuit=circuit)
                if circuit.opened:
                    log.error(
                        "circuit_opened",
                        handler=self._handler,
                        error=circuit.error,
                        failures=circuit.seen,
                        next_try_in=(circuit.until - circuit.opened) / 1000,
                    )
                break
        self._note(control)
        return control

    def _note(self, control: Control) -> None:
        """Keep the answer that follows for as long as it is good."""
        good_for, circuit, policy = FRESH, control.circuit, self._policy
        self._answer = Closed()
        self._quiet = policy is None or circuit.quiet(policy, control.now)
        if control.paused is not None:
            self._answer = Wait(None)
        elif policy is not None and circuit.opened:
            wait = max(0, wait_until(circuit) - control.now)
            self._answer = Wait(wait)
            good_for = min(FRESH, wait / 1000) if wait else FRESH
        self._look_at = time.monotonic() + good_for

    def _away(self, control: Control) -> int | None:
        if self._policy is None:
            return None
        if in_doubt(control.circuit, self._row):
            return HEARD_MS  # by then it is open, or somebody's success has cleared the doubt
        if not control.circuit.opened:
            return None
        pause = lane_ms(control.circuit, self._policy)
        return pause + pause // 10  # a little longer than the pause, so that whoever else is due comes first

    def _log_conclusion(self, control: Control, circuit: Circuit, verdict: Verdict, error: str) -> None:
        if not circuit.opened:
            opened = (control.now - control.circuit.opened) / 1000
            log.warning("circuit_closed", handler=self._handler, after=round(opened, 1))
        elif verdict is Verdict.BAD:  # what ended in neither way is told of as what it is, a dead letter say
            pause = (circuit.until - control.now) / 1000
            log.warning("probe_failed", handler=self._handler, error=error, next_try_in=pause)
