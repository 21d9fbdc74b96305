"""When to leave a handler's far side alone: the terms of a circuit breaker, and its decisions, pure.

                  outage-like failures in a row, or a bad window
    ┌────────┐ ───────────────────────────────────────────────▶ ┌──────┐   the pause is over    ┌───────────┐
    │ closed │                                                  │ open │ ─────────────────────▶ │ half-open │
    │        │ ◀──────────────────────────────────────┐         │      │ ◀───────────────────── │ one probe │
    └────────┘             the probe ended well       │         └──────┘    the probe failed:   └─────┬─────┘
                                                      └───────────────────  a longer pause  ──────────┘

One circuit belongs to one handler and is shared by all processes (store/control.py). It opens

1. when in the window at least ``calls`` calls, and ``ratio`` of all, failed, and they are of ``teams`` teams or more;
2. or the same of outage-like failures alone, of fewer teams, while no other team had a success;
3. or after ``calls`` outage-like failures in a row, with no success between, however long that took; or as many as a
   job has attempts, if those are fewer: an outage must not cost the jobs of a handler that tries little.

So a job or a team that fails by itself does not pause the others: its failures are of one team, and the successes of
the others end each row of them. (2 and 3 want a second to go by, in which those are heard of.) A far side that is down
is noticed even when only one team has work. What a failure says is decided elsewhere: outage-like ones
(``Failure.outage``) are the far side's trouble, others may be the job's own.

The pause doubles with each failed probe, from ``pause`` to ``longest``, but not while a single team has failed: that
may be that team's own fault after all, and another's job should have its chance soon. A probe is out until it ends or
its lease does; at most one is out at a time. A circuit that opens again within a window of closing goes on with the
pause that it had.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

BUCKETS: Final = 12
"""The window slides by a twelfth of its length."""
MOST_MARKS: Final = 64
"""Teams remembered in a bucket: more than a breaker may ask for (``MOST_TEAMS``)."""
MOST_TEAMS: Final = 50
MOST_DOUBLINGS: Final = 20
HEARD_MS: Final = 1000
"""So long after the first failure every process has told of its successes (they do it every quarter of a second)."""
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a handler is paused because what it calls is down; ``breaker=None`` never does it.

    ``ratio`` of the calls in ``window`` seconds have to fail, and at least ``calls``. It is paused for ``pause``
    seconds, then one job is tried; each failed try doubles that, up to ``longest``. Failures that do not look like an
    outage count if they are of at least ``teams`` teams.
    """

    ratio: float = 0.5
    calls: int = 5
    window: float = 60.0
    pause: float = 5.0
    longest: float = 60.0
    teams: int = 5

    def problem(self) -> str | None:
        """What is wrong with these numbers, in words."""
        for name in ("ratio", "window", "pause", "longest"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                return f"{name} must be a number"
        for name, most in (("calls", 1_000_000), ("teams", MOST_TEAMS)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                return f"{name} must be a whole number from 1 to {most}"
        if not 0 < self.ratio <= 1:
            return "ratio must be over 0 and at most 1"
        if not 1 <= self.window <= 3600:
            return "window must be from 1 to 3600 seconds"
        if not 0.1 <= self.pause <= self.longest <= 3600:
            return "pause must be from 0.1 seconds to longest, which is at most 3600"
        return None

    @classmethod
    def parse(cls, text: str) -> Breaker | None:
        """``off`` (None), ``on``, or some of ``ratio=0.5 calls=5 window=60s pause=5s longest=60s teams=5``.

        Raises ``ValueError`` saying what can't be used.
        """
        words = text.replace(",", " ").split()
        if [word.lower() for word in words] == ["off"]:
            return None
        if not words:
            raise ValueError(f"must be off, on, or values such as {cls()}")
        values: dict[str, float | int] = {}
        for word in words if [word.lower() for word in words] != ["on"] else ():
            name, equals, value = word.partition("=")
            if not equals or name not in cls.__dataclass_fields__ or name in values:
                raise ValueError(f"must be off, on, or values such as {cls()}")
            values[name] = _number(name, value)
        breaker = replace(cls(), **values)  # type: ignore[arg-type]
        if (problem := breaker.problem()) is not None:
            raise ValueError(problem)
        return breaker

    def __str__(self) -> str:
        times = f"window={self.window:g}s pause={self.pause:g}s longest={self.longest:g}s"
        return f"ratio={self.ratio:g} calls={self.calls} {times} teams={self.teams}"


class Bucket(msgspec.Struct, array_like=True, frozen=True):
    """Calls that ended in one stretch of the window, which began at ``at``. Teams are marks (``mark``); two that had a
    success are enough to know that one of them is not the failing one."""

    at: int
    ok: int = 0
    outage: int = 0
    failed: int = 0
    failing: tuple[str, ...] = ()
    fine: tuple[str, ...] = ()


class Circuit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A circuit's state. Times are server ms, 0 for none.

    ``opened`` is 0 while closed. No probe before ``until``. ``probe`` names the one that is out, whose lease ends at
    ``lease``. ``failures`` counts failed probes in a row, ``suspects`` are the teams whose calls failed. ``row`` counts
    outage-like failures in a row since ``row_at``, ``first`` is when the window's failures began, ``error`` the class
    of the last error and ``seen`` how many failures opened it. ``closed`` is when a probe last closed it.
    """

    opened: int = 0
    until: int = 0
    probe: str = ""
    lease: int = 0
    failures: int = 0
    suspects: tuple[str, ...] = ()
    row: int = 0
    row_at: int = 0
    first: int = 0
    error: str = ""
    seen: int = 0
    closed: int = 0
    buckets: tuple[Bucket, ...] = ()

    def quiet(self, policy: Breaker, now: int) -> bool:
        """Closed, and with no failure in mind: successes need not be told."""
        return not self.opened and not self.row and not self.failed_lately(policy, now)

    def failed_lately(self, policy: Breaker, now: int) -> int:
        """The failures in the window of a closed circuit."""
        return sum(bucket.outage + bucket.failed for bucket in _recent(self, policy, now))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How calls ended lately, of any lanes. ``row`` are the outage-like failures after the last success; ``failing``
    are marks of teams, ``fine`` of those with a success after the last failure; ``error`` is the last one's class."""

    ok: int = 0
    outage: int = 0
    failed: int = 0
    row: int = 0
    failing: frozenset[str] = frozenset()
    fine: frozenset[str] = frozenset()
    error: str = ""


class Verdict(StrEnum):
    """How a probe ended. NEITHER: it says nothing of the far side, as a dead letter at once, or no call at all."""

    GOOD = "good"
    BAD = "bad"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Closed:
    """Calls may begin."""


@dataclass(frozen=True, slots=True)
class Wait:
    """No call may begin for ``ms`` milliseconds; None: until somebody says so."""

    ms: int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """One call may begin, and ``token`` says which. The circuit that came with it has to be stored first."""

    token: str


Admission = Closed | Wait | Probe


def mark(team: str) -> str:
    """A short name for a team, of bounded length whatever its id. Two teams with one mark count as one team."""
    return f"{zlib.crc32(team.encode('utf-8', 'surrogatepass')):08x}"


def longest_row(policy: Breaker, attempts: int) -> int:
    """Outage-like failures in a row that are enough, for a handler whose jobs have so many ``attempts``."""
    return min(policy.calls, max(2, attempts))


def in_doubt(circuit: Circuit, row: int) -> bool:
    """Whether a closed circuit is about to open: the ``row`` is full, and others' successes may yet be heard of."""
    return not circuit.opened and circuit.row >= row


def observe(circuit: Circuit, policy: Breaker, outcomes: Outcomes, now: int, row: int | None = None) -> Circuit:
    """The circuit after these calls. One that is not closed stays as it is: only its probe has a say.

    ``row`` is how many outage-like failures in a row are enough, default ``policy.calls``.
    """
    enough = policy.calls if row is None else row
    if circuit.opened:
        return circuit
    known = _recent(circuit, policy, now)
    begun = any(bucket.outage + bucket.failed for bucket in known)
    failed = min((0 if outcomes.ok else circuit.row) + outcomes.row, policy.calls)
    circuit = msgspec.structs.replace(
        circuit,
        buckets=_counted(known, policy, outcomes, now),
        first=circuit.first if begun else now,
        row=failed,
        row_at=circuit.row_at if failed > outcomes.row else now,
        error=outcomes.error or circuit.error,
    )
    return _opened(circuit, policy, now) if _is_bad(circuit, policy, now, enough) else circuit


def admit(circuit: Circuit, now: int, *, token: str, lease_ms: int) -> tuple[Circuit, Admission]:
    """Whether a call may begin. With ``Probe``, the caller owns the probe named ``token`` for ``lease_ms``."""
    if not circuit.opened:
        return circuit, Closed()
    ends = wait_until(circuit)
    if now < ends:
        return circuit, Wait(ends - now)
    return msgspec.structs.replace(circuit, probe=token, lease=now + lease_ms), Probe(token)


def wait_until(circuit: Circuit) -> int:
    """When the next probe may be had, server ms; 0 for a closed circuit."""
    return max(circuit.until, circuit.lease) if circuit.opened else 0


def renewed(circuit: Circuit, now: int, *, token: str, lease_ms: int) -> Circuit:
    """The probe goes on. The same circuit if it is not this one's any more."""
    return msgspec.structs.replace(circuit, lease=now + lease_ms) if _is_out(circuit, token) else circuit


def concluded(
    circuit: Circuit, policy: Breaker, verdict: Verdict, now: int, *, token: str, team: str = "", error: str = ""
) -> Circuit:
    """The circuit after its probe. A success closes it, however late it comes; all else only counts of the present one.

    ``team`` is the mark of the probe's team.
    """
    if not circuit.opened or (verdict is not Verdict.GOOD and not _is_out(circuit, token)):
        return circuit
    if verdict is Verdict.GOOD:
        return Circuit(closed=now, failures=circuit.failures)
    if verdict is Verdict.NEITHER:
        return msgspec.structs.replace(circuit, probe="", lease=0)
    failing = msgspec.structs.replace(
        circuit,
        probe="",
        lease=0,
        failures=min(circuit.failures + 1, MOST_DOUBLINGS),
        suspects=_merged(circuit.suspects, {team}),
        error=error or circuit.error,
    )
    return msgspec.structs.replace(failing, until=now + pause_ms(failing, policy))


def pause_ms(circuit: Circuit, policy: Breaker) -> int:
    """How long an open circuit waits for its next probe."""
    return int(policy.pause * 1000) if len(circuit.suspects) < 2 else lane_ms(circuit, policy)


def lane_ms(circuit: Circuit, policy: Breaker) -> int:
    """How long a lane whose call failed stays away, so that the next probe is another's if there is another."""
    return int(min(policy.longest, policy.pause * 2.0**circuit.failures) * 1000)


def _is_out(circuit: Circuit, token: str) -> bool:
    return bool(token) and circuit.probe == token


def _opened(circuit: Circuit, policy: Breaker, now: int) -> Circuit:
    again = circuit.closed and now - circuit.closed < policy.window * 1000
    suspects: tuple[str, ...] = ()
    for bucket in circuit.buckets:
        suspects = _merged(suspects, bucket.failing)
    seen = max(circuit.row, sum(b.outage + b.failed for b in circuit.buckets))
    failures = circuit.failures if again else 0
    opened = Circuit(opened=now, failures=failures, suspects=suspects, error=circuit.error, seen=seen)
    return msgspec.structs.replace(opened, until=now + pause_ms(opened, policy))


def _is_bad(circuit: Circuit, policy: Breaker, now: int, row: int) -> bool:
    ok = sum(b.ok for b in circuit.buckets)
    outage = sum(b.outage for b in circuit.buckets)
    bad = outage + sum(b.failed for b in circuit.buckets)
    least = max(policy.calls, policy.ratio * (ok + bad))
    failing = {team for b in circuit.buckets for team in b.failing}
    if bad >= least and len(failing) >= policy.teams:
        return True
    if circuit.row >= row and now - circuit.row_at >= HEARD_MS:
        return True
    alone = not {team for b in circuit.buckets for team in b.fine} - failing
    return outage >= least and alone and now - circuit.first >= HEARD_MS


def _recent(circuit: Circuit, policy: Breaker, now: int) -> tuple[Bucket, ...]:
    since = now - int(policy.window * 1000)
    return tuple(bucket for bucket in circuit.buckets if bucket.at > since)


def _counted(buckets: tuple[Bucket, ...], policy: Breaker, outcomes: Outcomes, now: int) -> tuple[Bucket, ...]:
    width = max(1, int(policy.window * 1000) // BUCKETS)
    at = now - now % width
    last = buckets[-1] if buckets and buckets[-1].at >= at else None
    rest, bucket = (buckets[:-1], last) if last is not None else (buckets, Bucket(at))
    return (
        *rest[-BUCKETS:],
        Bucket(
            bucket.at,
            bucket.ok + outcomes.ok,
            bucket.outage + outcomes.outage,
            bucket.failed + outcomes.failed,
            _merged(bucket.failing, outcomes.failing),
            _merged(bucket.fine, outcomes.fine),
        ),
    )


def _merged(marks: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({*marks, *more} - {""}))[:MOST_MARKS]


def _number(name: str, text: str) -> float | int:
    """``5``, ``0.5``, ``60s``, ``500ms``: a number, of seconds for times."""
    times = name in {"window", "pause", "longest"}
    digits = text.rstrip("hms") if times else text
    try:
        return int(digits) if name in {"calls", "teams"} else float(digits) * UNITS[text[len(digits) :]]
    except (ValueError, KeyError):
        raise ValueError(f"{name} must be a {'duration such as 500ms, 5s or 1m' if times else 'number'}") from None
