"""What the status says of a handler as a whole: its circuit, and that a person paused it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.core.breaker import Breaker, wait_until
from worker.ops import tables
from worker.store.control import Control


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    """``state`` is closed, open or off. Open: for ``open_ms``, and one job is tried in ``next_try_ms``, 0 as soon as
    there is one (or now). ``failures`` are those of the last window, or those that opened it and each failed try since;
    ``error`` is the class of the last. Paused: for ``paused_ms``, by ``paused_by``."""

    state: str = "closed"
    open_ms: int | None = None
    next_try_ms: int | None = None
    failures: int = 0
    error: str | None = None
    paused_ms: int | None = None
    paused_by: str | None = None

    @property
    def holds(self) -> bool:
        """Whether work that is due may be left where it is."""
        return self.state == "open" or self.paused_ms is not None

    def words(self) -> str:
        """For a column of a table."""
        if self.paused_ms is not None:
            return "paused"
        if self.state != "open":
            return self.state
        return f"open, next try {f'in {tables.age(self.next_try_ms)}' if self.next_try_ms else 'with the next job'}"


def circuit_status(control: Control, announced: Mapping[str, Any]) -> CircuitStatus:
    """``announced`` is what workers said of the handler, of whatever version."""
    now, circuit, paused = control.now, control.circuit, control.paused
    policy = _policy(announced.get("breaker", "on"))
    state = "off" if policy is None else "open" if circuit.opened else "closed"
    failures = 0
    if policy is not None:
        failures = circuit.seen + circuit.failures if circuit.opened else circuit.failed_lately(policy, now)
    return CircuitStatus(
        state=state,
        open_ms=max(0, now - circuit.opened) if state == "open" else None,
        next_try_ms=max(0, wait_until(circuit) - now) if state == "open" else None,
        failures=failures,
        error=circuit.error or None if failures else None,
        paused_ms=None if paused is None else max(0, now - paused.at),
        paused_by=None if paused is None else paused.by,
    )


def _policy(told: str | None) -> Breaker | None:
    try:
        return None if told is None else Breaker.parse(told)
    except ValueError:
        return Breaker()  # of a worker that knows more of breakers than this command


def problems(name: str, status: CircuitStatus) -> Iterable[str]:
    """What a person should know, a sentence each."""
    if status.paused_ms is not None:
        since = tables.age(status.paused_ms)
        yield f"handler {name} was paused {since} ago by {status.paused_by}: see `handoff handlers resume {name}`"
    if status.state == "open":
        why = f" ({status.error})" if status.error else ""
        tried = f"in {tables.age(status.next_try_ms)}" if status.next_try_ms else "with the next job"
        yield (
            f"handler {name} is held back, for what it calls has been down for {tables.age(status.open_ms)}{why}: "
            f"next try {tried}"
        )
