"""What the rules of ordering say, written as naively as they are told: for comparing with the real sequencer.

One list of waiting events per team, looked through from the start after every step; no plan, no bisecting, no netting.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.property.streams import Batch
from worker.core.envelope import Envelope, Unreadable
from worker.core.sequencing import Delivery, Policy, Proof


@dataclass
class Team:
    top: int | None = None
    waiting: list[tuple[Envelope, int, int]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)


@dataclass
class Oracle:
    """``out``: (team, id, late) in order; ``fates``: what became of each delivery that was not kept waiting."""

    policy: Policy
    teams: dict[str, Team] = field(default_factory=dict)
    out: list[tuple[str, str, bool]] = field(default_factory=list)
    fates: dict[str, str] = field(default_factory=dict)
    changes: list[tuple[str, str | None, bool, bool] | None] = field(default_factory=list)
    history: dict[tuple[str, str], list[Envelope]] = field(default_factory=dict)

    def run(self, story: list[Batch]) -> Oracle:
        wait = self.policy.gap_wait.fixed_ms
        assert wait is not None
        for batch in story:
            for item in batch.items:
                content = item.content if isinstance(item, Delivery) else item[1]
                if isinstance(content, Unreadable):
                    self.fates[item[0]] = content.reason
                elif isinstance(content, Proof):
                    self.fates[item[0]] = "proof"
                    self.prove(self.teams.setdefault(content.team, Team()), content.seq)
                elif isinstance(content, Envelope):
                    assert isinstance(item, Delivery)
                    self.receive(item, content, batch.now)
            for team in self.teams.values():
                while any(arrived <= batch.clock - wait for _, arrived, _ in team.waiting):
                    self.release_lowest(team)
                self.settle(team)
        return self

    def receive(self, item: Delivery, event: Envelope, now: int) -> None:
        entry = item.entry
        team = self.teams.setdefault(event.team, Team())
        if event.id in team.ids:
            self.fates[entry] = "duplicate"
            return
        team.ids.add(event.id)
        if team.top is None or event.seq > team.top:
            team.waiting.append((event, item.arrived, item.size))
            self.settle(team)
        elif event.occurred_ms is not None and now - event.occurred_ms > self.policy.dedup_window_ms:
            self.fates[entry] = "too_old"
        else:
            self.release(event, late=True)

    def prove(self, team: Team, seq: int) -> None:
        while any(event.seq <= seq for event, _, _ in team.waiting):
            self.release_lowest(team)
        team.top = seq if team.top is None else max(team.top, seq)
        self.settle(team)

    def settle(self, team: Team) -> None:
        while team.waiting and (
            (team.top is not None and min(event.seq for event, _, _ in team.waiting) <= team.top + 1)
            or len(team.waiting) > self.policy.held_max
            or sum(size for _, _, size in team.waiting) > self.policy.held_bytes
        ):
            self.release_lowest(team)

    def release_lowest(self, team: Team) -> None:
        lowest = min(team.waiting, key=lambda held: place(held[0]))
        team.waiting.remove(lowest)
        team.top = lowest[0].seq
        self.release(lowest[0], late=False)

    def release(self, event: Envelope, *, late: bool) -> None:
        self.out.append((event.team, event.id, late))
        if event.prospect is None:
            self.changes.append(None)
            return
        earlier = self.history.setdefault((event.team, event.prospect), [])
        newest = max(earlier, key=place, default=None)
        earlier.append(event)
        if newest is None:
            self.changes.append(("unassigned" if event.assignee is None else "assigned", None, False, False))
        elif place(newest) > place(event):
            self.changes.append(("unassigned" if event.assignee is None else "assigned", None, False, True))
        else:
            self.changes.append((kind(newest.assignee, event.assignee), newest.assignee, True, False))


def place(event: Envelope) -> tuple[int, int, str]:
    return event.seq, event.occurred_ms or 0, event.id


def kind(before: str | None, after: str | None) -> str:
    if before == after:
        return "unchanged"
    if before is None:
        return "assigned"
    return "unassigned" if after is None else "reassigned"
