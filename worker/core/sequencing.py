"""Puts one partition's deliveries in order: a pure function from (state, deliveries, time) to a plan.

Each team counts its events with ``seq``; its *watermark* is the highest released. An event with number ``n`` is

    seen before (by id)          duplicate
    n == watermark + 1           released, and with it whatever was held right above it
    n >  watermark + 1           held: something below it is missing, or was never sent to us
    n <= watermark               late: released and marked; its change may be stale (core/changes.py)
    n <= watermark, too old      quarantined: older than ids are remembered, so it can't be told from a duplicate; but
                                 late where a person vouches for it (`handoff quarantine retry --force`)

A gap is normal: ``seq`` counts events that the webhook may not be subscribed to (PROVIDER.md 2). It is given up when

- the wait is over: no event is held for longer than the gap wait after it arrived, or
- it is proven empty: the provider was asked and had nothing there (PROVIDER.md 3), or
- too much is held, in events or in bytes of their bodies: over the bound the lowest goes first.

The first event ever of a team has no watermark to be next to; it waits as above a gap. Two ids with one number are two
events: both go out, by time, then id.

*Time* is the server's. While there is a backlog it is the arrival time of the last delivery read: a gap that was filled
a moment later must not be given up because the sequencer was away for a minute. Ids are looked up and forgotten by the
server's time all the same, so that is what an event's age is measured by.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

from worker.core.changes import Change, Owner, assignee_change, owner_after
from worker.core.envelope import Envelope, Unreadable
from worker.core.lateness import GapWait, Lateness

SKIPPED_KEPT: Final = 4
"""Given-up gaps remembered per team, to learn how late their events come. Bounds what an idle team costs."""

TOO_OLD: Final = "too_old"
INTERNAL_ERROR: Final = "internal_error"
"""A delivery that raised what nobody foresaw: set aside, so that the others behind it go on."""


class Delivery(NamedTuple):
    """One entry of the inbox: where it is, when it arrived (ms), and what it says or why it says nothing.

    ``size`` is the body's length in bytes; ``mark`` what is remembered of the event's id (``fingerprint``),
    worked out from it where the reader has not done so. ``vouched``: a person says that it is no duplicate.
    """

    entry: str
    arrived: int
    content: Envelope | Unreadable
    size: int = 0
    mark: bytes = b""
    vouched: bool = False


class Arrival(NamedTuple):
    """An event that arrived and is new: the unit that is held and released."""

    event: Envelope
    entry: str
    arrived: int
    size: int


class Gap(NamedTuple):
    """Numbers ``first`` to ``last`` of a team, given up; ``noticed`` is when the first event above them arrived."""

    first: int
    last: int
    noticed: int


class Proof(NamedTuple):
    """The provider's word that everything of ``team`` up to ``seq`` has been handed over."""

    team: str
    seq: int


class Released(NamedTuple):
    """An event on its way out. ``change`` is None when it says nothing of an owner."""

    arrival: Arrival
    late: bool
    change: Change | None


class Quarantined(NamedTuple):
    entry: str
    reason: str
    detail: str


@dataclass(slots=True)
class TeamState:
    """Where a team stands. ``held`` is in release order; ``watermark`` None means that nothing was ever released."""

    watermark: int | None = None
    held: list[Arrival] = field(default_factory=list)
    skipped: list[Gap] = field(default_factory=list)


@dataclass(slots=True)
class State:
    """What a plan starts from: all teams and owners that the batch touches, and which of its ids were seen."""

    teams: dict[str, TeamState] = field(default_factory=dict)
    owners: dict[tuple[str, str], Owner] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    lateness: Lateness = field(default_factory=Lateness)


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that ordering depends on. Times in milliseconds. One team may hold ``held_max`` events and
    ``held_bytes`` of bodies."""

    gap_wait: GapWait = field(default_factory=GapWait)
    held_max: int = 1000
    held_bytes: int = 64 * 1024 * 1024
    dedup_window_ms: int = 24 * 3600 * 1000


@dataclass(slots=True)
class Plan:
    """What to write. Together with the state before, it is the state after: nothing else is decided later.

    ``held`` (by entry) and ``unheld`` are net: an event held and released within the batch is in neither.
    ``deadlines`` has, for each touched team, when its wait is over, or None when it holds nothing any more.
    """

    released: list[Released] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    held: dict[str, Arrival] = field(default_factory=dict)
    unheld: list[Arrival] = field(default_factory=list)
    teams: dict[str, TeamState] = field(default_factory=dict)
    owners: dict[tuple[str, str], Owner] = field(default_factory=dict)
    deadlines: dict[str, int | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def fingerprint(team: str, event_id: str) -> bytes:
    """What is remembered of an event's id: 16 bytes whatever its length. Ids are unique within their team.

    A 128-bit digest: among 10**12 events the odds that any two agree are below 10**-14.
    """
    return hashlib.blake2b(f"{len(team)}:{team}{event_id}".encode(), digest_size=16).digest()


def _seq(arrival: Arrival) -> int:
    return arrival.event.seq


def place(arrival: Arrival) -> tuple[int, int, str]:
    """The order in which a team's events go out: number, then time, then id."""
    event = arrival.event
    return event.seq, event.occurred_ms or 0, event.id


def plan(
    state: State,
    deliveries: Iterable[Delivery | tuple[str, Proof]],
    clock: int,
    policy: Policy,
    due: Iterable[str] = (),
    *,
    now: int | None = None,
) -> Plan:
    """Decide about a batch. ``clock`` is the time (ms) that gaps are judged by; ``due`` names more teams whose wait may
    be over; ``now`` is when the ids were looked up (ms, default ``clock``).

    ``state`` is taken over and changed: it is the state after, should the plan be committed. It must hold every team of
    ``deliveries`` and ``due`` (a missing one is new) and every owner of their, and their held events', prospects.
    """
    sequencer = _Sequencer(state, policy, clock if now is None else now)
    for delivery in deliveries:
        if len(delivery) == 2:
            sequencer.prove(*delivery)
        else:
            sequencer.receive(delivery)
    sequencer.finish(clock, due)
    return sequencer.plan


class _Sequencer:
    def __init__(self, state: State, policy: Policy, now: int) -> None:
        self.state = state
        self.policy = policy
        self.now = now
        self.plan = Plan()
        self.in_order = 0
        self.sizes: dict[str, int] = {}  # bytes that a team holds, of those that were asked for

    def receive(self, delivery: Delivery) -> None:
        entry, arrived, event, size, mark, vouched = delivery
        plan = self.plan
        if isinstance(event, Unreadable):
            plan.quarantined.append(Quarantined(entry, event.reason, event.detail))
            return
        mark = mark or fingerprint(event.team, event.id)
        if mark in self.state.seen and not vouched:
            plan.duplicates.append(entry)
            return
        self.state.seen.add(mark)
        plan.seen.append(mark)

        team = self._team(event.team)
        arrival = Arrival(event, entry, arrived, size)
        watermark = team.watermark
        if watermark is None or event.seq > watermark + 1:
            self._hold(team, arrival)
        elif event.seq == watermark + 1:
            self._observe(team, arrival)
            self._release(team, arrival)
            if team.held:
                self._drain(team)
        else:
            self._receive_late(team, arrival, vouched=vouched)

    def prove(self, entry: str, proof: Proof) -> None:
        """Nothing is missing up to ``proof.seq``: what is held up to there goes out, and the watermark with it."""
        self.plan.proofs.append(entry)
        team = self._team(proof.team)
        self._release_lowest(team, bisect_right(team.held, proof.seq, key=_seq))
        if team.watermark is None or team.watermark < proof.seq:
            team.watermark = proof.seq
        self._drain(team)

    def finish(self, clock: int, due: Iterable[str]) -> None:
        """Give up the gaps whose wait is over, and say when the next one's will be."""
        state, plan = self.state, self.plan
        if self.in_order:
            state.lateness.observe(0, self.in_order)
        for name in due:
            self._team(name)
        wait = self.policy.gap_wait.of(state.lateness)
        for name, team in plan.teams.items():
            if team.held:
                self._expire(team, clock - wait)
            plan.deadlines[name] = min(held.arrived for held in team.held) + wait if team.held else None

    def _team(self, name: str) -> TeamState:
        team = self.plan.teams.get(name)
        if team is None:
            team = self.state.teams.setdefault(name, TeamState())
            self.plan.teams[name] = team
        return team

    def _hold(self, team: TeamState, arrival: Arrival) -> None:
        event, held = arrival.event, team.held
        at = bisect_left(held, event.seq, key=_seq) if held and event.seq <= held[-1].event.seq else len(held)
        while at < len(held) and held[at].event.seq == event.seq:
            if held[at].event.id == event.id:
                # Held for longer than ids are remembered: the sequencer was away, or the gap wait is very long.
                self.plan.duplicates.append(arrival.entry)
                return
            at += 1
        if at and held[at - 1].event.seq == event.seq:
            self.plan.counts["twins"] += 1
        self._observe(team, arrival)
        size = self.sizes.get(event.team)
        if size is None:
            size = sum(each.size for each in held)
        self.sizes[event.team] = size + arrival.size
        insort(held, arrival, key=place)
        self.plan.held[arrival.entry] = arrival
        policy = self.policy
        # By more than one after a bound was lowered, or when a big body takes the place of small ones.
        while team.held and (len(team.held) > policy.held_max or self.sizes[event.team] > policy.held_bytes):
            self.plan.counts["overflowed"] += 1
            self._release_lowest(team, 1)
            self._drain(team)

    def _receive_late(self, team: TeamState, arrival: Arrival, *, vouched: bool) -> None:
        event = arrival.event
        age = 0 if event.occurred_ms is None else self.now - event.occurred_ms
        if age > self.policy.dedup_window_ms and not vouched:
            self.plan.quarantined.append(
                Quarantined(
                    arrival.entry, TOO_OLD, "below the watermark and older than ids are remembered: may be a duplicate"
                )
            )
            return
        if event.seq == team.watermark:
            self.plan.counts["twins"] += 1
        for gap in team.skipped:
            if gap.first <= event.seq <= gap.last:
                self.state.lateness.observe(arrival.arrived - gap.noticed)
        self.plan.counts["late"] += 1
        self._release(team, arrival, late=True)

    def _observe(self, team: TeamState, arrival: Arrival) -> None:
        """How late is this event, measured from the first that should have come after it?"""
        seq = arrival.event.seq
        if team.held and seq < team.held[-1].event.seq:
            above = bisect_right(team.held, seq, key=_seq)
            first = min(held.arrived for held in team.held[above:])
            self.state.lateness.observe(arrival.arrived - first)
        else:
            self.in_order += 1

    def _drain(self, team: TeamState) -> None:
        """Release what is held right above the watermark."""
        count, watermark = 0, team.watermark
        while watermark is not None and count < len(team.held) and team.held[count].event.seq <= watermark + 1:
            watermark = team.held[count].event.seq
            count += 1
        self._release_lowest(team, count)

    def _release_lowest(self, team: TeamState, count: int) -> None:
        """Release the ``count`` lowest held events, giving up the gaps below them. In one go: with a gap below each, a
        search for what noticed it would make the work grow with the square of what is held, and outlast the lease."""
        going = team.held[:count]
        noticed: list[int] = []
        for at, arrival in enumerate(going):
            if team.watermark is not None and arrival.event.seq > team.watermark + 1:
                if not noticed:
                    arrived = [held.arrived for held in reversed(team.held)]
                    noticed = list(accumulate(arrived, min))[::-1]  # of each held event and all above it
                team.skipped.append(Gap(team.watermark + 1, arrival.event.seq - 1, noticed[at]))
                self.plan.counts["gaps"] += 1
            if self.plan.held.pop(arrival.entry, None) is None:
                self.plan.unheld.append(arrival)
            self._release(team, arrival)
        if going and going[0].event.team in self.sizes:
            self.sizes[going[0].event.team] -= sum(arrival.size for arrival in going)
        del team.skipped[:-SKIPPED_KEPT]
        del team.held[:count]

    def _expire(self, team: TeamState, horizon: int) -> None:
        """Release everything up to the highest event that arrived at ``horizon`` or before."""
        expired = [held.event.seq for held in team.held if held.arrived <= horizon]
        if expired:
            self._release_lowest(team, bisect_right(team.held, max(expired), key=_seq))
            self._drain(team)

    def _release(self, team: TeamState, arrival: Arrival, *, late: bool = False) -> None:
        event = arrival.event
        if not late:
            team.watermark = event.seq
        change = None
        if event.prospect is not None:
            prospect = (event.team, event.prospect)
            change = assignee_change(self.state.owners.get(prospect), event)
            if change.stale:
                self.plan.counts["stale"] += 1
            else:
                self.state.owners[prospect] = self.plan.owners[prospect] = owner_after(event)
        self.plan.released.append(Released(arrival, late, change))


def prospects_of(teams: Mapping[str, TeamState]) -> set[tuple[str, str]]:
    """The prospects whose owner a plan may need because an event of theirs is held."""
    return {
        (name, held.event.prospect)
        for name, team in teams.items()
        for held in team.held
        if held.event.prospect is not None
    }
