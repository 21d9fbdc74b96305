"""Keeps the sequencer's state between batches as the store does, and writes down all that happened.

``Books.step`` is read, load, plan and commit without a server: it loads only what the store loads, applies the *plan*
(not the state that planning left behind), and checks after every step what must hold after every commit. With
``as_text`` the state lives as the bytes that worker.store.records makes, so whatever those lose is lost here too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.core.changes import Owner
from worker.core.envelope import Envelope
from worker.core.lateness import Lateness
from worker.core.sequencing import (
    Arrival,
    Delivery,
    Plan,
    Policy,
    Proof,
    Released,
    State,
    TeamState,
    fingerprint,
    plan,
    prospects_of,
)
from worker.store import records

Item = Delivery | tuple[str, Proof]


@dataclass
class Books:
    """``released`` is everything that went out, in order; ``forgetful``: ids are remembered in half windows, as in the
    store, and no longer."""

    policy: Policy
    as_text: bool = False
    forgetful: bool = False
    released: list[Released] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)
    proofs: list[str] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    entries: set[str] = field(default_factory=set)
    teams: dict[str, object] = field(default_factory=dict)
    held: dict[str, set[object]] = field(default_factory=dict)
    owners: dict[tuple[str, str], object] = field(default_factory=dict)
    seen: dict[int, set[bytes]] = field(default_factory=dict)
    deadlines: dict[str, int] = field(default_factory=dict)
    lateness: object = None

    def step(self, items: Sequence[Item], clock: int, now: int | None = None) -> Plan:
        """One batch: its plan, after it has been applied and checked."""
        now = clock if now is None else now
        due = [team for team, deadline in self.deadlines.items() if deadline <= clock]
        state = self._load(items, due, now)
        decided = plan(state, items, clock, self.policy, due, now=now)
        self._check(items, decided)
        self._commit(state, decided, now)
        self._check_after(decided, clock)
        return decided

    def held_of(self, team: str) -> list[Arrival]:
        found = self.held.get(team, set())
        if not self.as_text:
            return sorted((a for a in found if isinstance(a, Arrival)), key=_place)
        return records.decode_held(team, [item for item in found if isinstance(item, tuple)])

    def _load(self, items: Sequence[Item], due: list[str], now: int) -> State:
        events = [item.content for item in items if isinstance(item, Delivery) and isinstance(item.content, Envelope)]
        names = {e.team for e in events} | {item[1].team for item in items if isinstance(item[1], Proof)} | {*due}
        state = State(lateness=self._read_lateness())
        for name in names:
            state.teams[name] = self.read_team(name)
            if name in self.deadlines:  # the store looks for held events only where a deadline says there are some
                state.teams[name].held = self.held_of(name)
        windows = self._windows(now) if self.forgetful else list(self.seen)
        marks = {fingerprint(event.team, event.id) for event in events}
        state.seen = {mark for window in windows for mark in self.seen.get(window, ()) if mark in marks}
        wanted = {(e.team, e.prospect) for e in events if e.prospect is not None} | prospects_of(state.teams)
        for prospect in wanted & self.owners.keys():
            state.owners[prospect] = self._read_owner(prospect)
        return state

    def _commit(self, state: State, decided: Plan, now: int) -> None:
        for name, team in decided.teams.items():
            kept = TeamState(team.watermark, [], list(team.skipped))
            self.teams[name] = records.encode_team(kept) if self.as_text else kept
        for arrival in decided.unheld:
            self.held[arrival.event.team].remove(self._write_held(arrival))
        for arrival in decided.held.values():
            self.held.setdefault(arrival.event.team, set()).add(self._write_held(arrival))
        for prospect, owner in decided.owners.items():
            self.owners[prospect] = records.encode_owner(owner) if self.as_text else owner
        self.seen.setdefault(self._windows(now)[0], set()).update(decided.seen)
        for name, deadline in decided.deadlines.items():
            if deadline is None:
                self.deadlines.pop(name, None)
            else:
                self.deadlines[name] = deadline
        self.lateness = records.encode_lateness(state.lateness) if self.as_text else copy.deepcopy(state.lateness)
        self.released += decided.released
        self.duplicates += decided.duplicates
        self.proofs += decided.proofs
        self.quarantined.update({item.entry: item.reason for item in decided.quarantined})
        self.plans.append(decided)

    def _check(self, items: Sequence[Item], decided: Plan) -> None:
        self.entries |= {item[0] for item in items}
        assert decided.teams.keys() == decided.deadlines.keys()

    def _check_after(self, decided: Plan, clock: int) -> None:
        # Conservation: every entry is in exactly one place.
        held = [arrival.entry for team in self.held for arrival in self.held_of(team)]
        places = held + self.duplicates + [*self.quarantined] + self.proofs + [r.arrival.entry for r in self.released]
        assert sorted(places) == sorted(self.entries)
        for name, team in decided.teams.items():
            assert team.held == self.held_of(name), "the net of held and unheld is not what is held"
            deadline = decided.deadlines[name]
            assert (deadline is None) == (not team.held)
            if deadline is not None:
                assert deadline > clock, "a wait that was over by the clock was not ended"
            if team.held:
                assert team.watermark is None or team.held[0].event.seq > team.watermark + 1, "held without a gap"
                assert team.held == sorted(team.held, key=_place)
        for team_name in self.held:
            count = len(self.held_of(team_name))
            assert (count > 0) == (team_name in self.deadlines)
            assert count <= self.policy.held_max
            assert sum(arrival.size for arrival in self.held_of(team_name)) <= self.policy.held_bytes
        # Progress: whoever waits has not waited for the gap wait yet, by the clock of this step.
        fixed = self.policy.gap_wait.fixed_ms
        if fixed is not None:
            for team_name in self.held:
                arrived = [arrival.arrived for arrival in self.held_of(team_name)]
                assert all(when + fixed > clock for when in arrived)
                assert not arrived or self.deadlines[team_name] == min(arrived) + fixed

    def _windows(self, now: int) -> list[int]:
        """worker.store.sequence keeps ids like this: the present half window, and the two before it."""
        window = now // max(1, self.policy.dedup_window_ms // 2)
        return [window, window - 1, window - 2]

    def _write_held(self, arrival: Arrival) -> object:
        return (records.encode_held(arrival), float(arrival.event.seq)) if self.as_text else arrival

    def read_team(self, name: str) -> TeamState:
        kept = self.teams.get(name)
        if kept is None or isinstance(kept, bytes):
            return records.decode_team(kept)
        assert isinstance(kept, TeamState)
        return TeamState(kept.watermark, [], list(kept.skipped))

    def _read_owner(self, prospect: tuple[str, str]) -> Owner:
        kept = self.owners[prospect]
        if isinstance(kept, bytes):
            return records.decode_owner(kept)
        assert isinstance(kept, Owner)
        return kept

    def _read_lateness(self) -> Lateness:
        if isinstance(self.lateness, bytes):
            return records.decode_lateness(self.lateness)
        return copy.deepcopy(self.lateness) if isinstance(self.lateness, Lateness) else Lateness()


def _place(arrival: Arrival) -> tuple[int, int, str]:
    return arrival.event.seq, arrival.event.occurred_ms or 0, arrival.event.id
