"""When to take nothing more in: a pure function from (gate, load, bounds, time) to the gate after.

    open ──a bound is reached──▶ closed ──its load is under OPEN of the bound──▶ open
                                    └────── or under the bound for SETTLED seconds ──▶ open

Without the gap between the two a full backlog would open and close with every delivery that ends. The second way out is
for what never falls so low by draining: jobs of lanes that are blocked, or remembered ids that fill the server to just
below its bound. There is room then, and it would stay unused for ever.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from worker.core.units import size

OPEN: Final = 0.9
"""Share of a bound under which a closed gate opens, and over which an operator is warned."""

SETTLED: Final = 30.0
"""Seconds under the bound after which a gate opens all the same: as long as senders are told to wait."""


class Reason(StrEnum):
    """Which bound is reached; the values are error codes of the ingress."""

    EVENTS = "backlog_full"
    BYTES = "backlog_bytes_full"
    MEMORY = "memory_full"


class Load(NamedTuple):
    """What waits, in deliveries and in bytes, and the memory that the state server uses, bytes."""

    events: int = 0
    size: int = 0
    memory: int = 0

    def of(self, reason: Reason) -> int:
        return self[_ORDER.index(reason)]


class Bounds(NamedTuple):
    """The same three, as much as may be; 0 is no bound. ``share`` and ``server`` are what ``memory`` was made of."""

    events: int = 0
    size: int = 0
    memory: int = 0
    share: float = 0.0
    server: int = 0

    def of(self, reason: Reason) -> int:
        return int(self[_ORDER.index(reason)])


_ORDER: Final = (Reason.EVENTS, Reason.BYTES, Reason.MEMORY)


class Gate(NamedTuple):
    """``reason`` None is open. ``below`` is since when (s) a closed gate's load has been under its bound."""

    reason: Reason | None = None
    below: float | None = None


def bounds_of(events: int, size: int, share: float, server: int) -> Bounds:
    """The bounds that these settings make with a server of ``server`` bytes of maxmemory (0: it has no such bound)."""
    return Bounds(events, int(size), int(share * server), share, server)


def reached(load: Load, bounds: Bounds) -> Reason | None:
    """The first bound that ``load`` has reached."""
    for reason in _ORDER:
        if 0 < bounds.of(reason) <= load.of(reason):
            return reason
    return None


def warnings(load: Load, bounds: Bounds) -> list[str]:
    """What an operator should know of bounds that are reached, or nearly, a sentence each."""
    found = []
    for reason in _ORDER:
        bound, words = bounds.of(reason), describe(reason, load, bounds)
        if 0 < bound <= load.of(reason):
            found.append(f"deliveries are answered 503: {words}")
        elif 0 < OPEN * bound <= load.of(reason):
            found.append(f"deliveries will soon be answered 503: {words}")
    return found


def decide(gate: Gate, load: Load, bounds: Bounds, now: float) -> Gate:
    """The gate after a look at ``now`` (s, of any clock that only goes forward)."""
    full = reached(load, bounds)
    if full is not None:
        return Gate(full)
    reason = gate.reason
    if reason is None or load.of(reason) < OPEN * bounds.of(reason) or not bounds.of(reason):
        return Gate()
    below = now if gate.below is None else gate.below
    return Gate() if now - below >= SETTLED else Gate(reason, below)


def describe(reason: Reason, load: Load, bounds: Bounds) -> str:
    """The load beside its bound, in words, with the setting that the bound comes from."""
    if reason is Reason.EVENTS:
        return f"{load.events:,} accepted deliveries wait, of {bounds.events:,} that may (HANDOFF_MAX_BACKLOG)"
    if reason is Reason.BYTES:
        waits = f"{size(load.size)} of accepted deliveries wait"
        return f"{waits}, of {size(bounds.size)} that may (HANDOFF_MAX_BACKLOG_BYTES)"
    uses = f"the state server uses {size(load.memory)} of its {size(bounds.server)} (maxmemory)"
    return f"{uses}, and {bounds.share:.0%} is the bound (HANDOFF_MAX_MEMORY)"
