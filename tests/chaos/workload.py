"""What the provider sends, and when: a function of the seed alone.

Teams of Zipf size with several prospects each; changes of owners, their echoes from threads, and other events; numbers
that this webhook never gets, so that gaps are normal. Deliveries are displaced, doubled, dropped and sent again late.
A few bodies are signed and can't be read, a few can be read and are not signed. Some events mean trouble for a
handler (handlers.py), which they say in their data.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, Final, NamedTuple

from tests.chaos.history import Message

ZIPF: Final = 1.1
NORMAL: Final = datetime(2026, 1, 1, tzinfo=UTC)
OTHERS: Final = ("message.created", "prospect.tagsChanged", "thread.archived")


class Sending(NamedTuple):
    """``at`` seconds after the start, the message of that ``number`` is sent to ingress number ``ingress``."""

    at: float
    number: int
    ingress: int


@dataclass(frozen=True)
class Shape:
    """How the provider behaves. Shares are of events; times in seconds. ``hang``: every so many seconds an event that
    keeps its handler for ``hang_for``; ``exits``: every so many, one whose handler ends its process. 0: never."""

    seconds: float = 60.0
    rate: float = 40.0
    teams: int = 12
    doubled: float = 0.15
    displaced: float = 0.3
    displacement: float = 0.3
    dropped: float = 0.03
    dropped_for: float = 5.0
    skipped: float = 0.15
    echoes: float = 0.12
    others: float = 0.2
    unreadable: float = 0.01
    unsigned: float = 0.01
    flaky: float = 0.03
    poison: float = 0.03
    hang: float = 20.0
    hang_for: float = 12.0
    exits: float = 45.0


class Posting(NamedTuple):
    """A sending with its message."""

    at: float
    message: Message
    ingress: int


@dataclass(frozen=True)
class Workload:
    messages: Sequence[Message]
    sendings: Sequence[Sending]
    """By time."""

    @property
    def ends(self) -> float:
        """When the last delivery is sent for the first time, in seconds after the start."""
        return self.sendings[-1].at

    def postings(self) -> Iterator[Posting]:
        """By time."""
        return (Posting(sending.at, self.messages[sending.number], sending.ingress) for sending in self.sendings)


def make(seed: int, shape: Shape, *, ingresses: int = 2, started: datetime = NORMAL) -> Workload:
    """The messages and when they are sent. ``started`` is when the first event happened; it only goes into bodies."""
    messages: list[Message] = []
    sendings: list[Sending] = []
    for message, times in stream(seed, shape, ingresses=ingresses, started=started):
        sendings += (Sending(at, len(messages), ingress) for at, ingress in times)
        messages.append(message)
    return Workload(messages, sorted(sendings))


def stream(
    seed: int, shape: Shape, *, ingresses: int = 2, started: datetime = NORMAL
) -> Iterator[tuple[Message, list[tuple[float, int]]]]:
    """The same one message after the other, by when they happened: each with when and to which ingress it is sent."""
    rng = random.Random(f"workload {seed}")
    teams = [_Team(f"team-{number:02d}", rng) for number in range(shape.teams)]
    weights = list(accumulate((rank + 1) ** -ZIPF for rank in range(shape.teams)))
    poison, stuck, lethal = (_Team(name, rng) for name in ("poison", "stuck", "lethal"))
    made = 0
    hangs = _Every(shape.hang, first=0.3)
    exits = _Every(shape.exits, first=0.2)
    for number in range(int(shape.seconds * shape.rate)):
        at = number / shape.rate
        moment = started + timedelta(seconds=at)
        team = rng.choices(teams, cum_weights=weights)[0]
        trouble: dict[str, Any] = {}
        if rng.random() < shape.poison:
            team, trouble = poison, {"fail": 99}
        elif rng.random() < shape.flaky:
            trouble = {"fail": rng.randint(1, 2)}
        if hangs.due(at):
            team, trouble = stuck, {"hang": shape.hang_for}
        elif exits.due(at):
            team, trouble = lethal, {"exit": 1}
        made += 1
        yield team.next(rng, shape, moment, trouble), _times(rng, shape, at, ingresses)
        for share, kind in ((shape.unreadable, "unreadable"), (shape.unsigned, "unsigned")):
            if rng.random() < share:
                made += 1
                yield _odd(kind, made - 1, team.name), [(at, rng.randrange(ingresses))]


def _times(rng: random.Random, shape: Shape, at: float, ingresses: int) -> list[tuple[float, int]]:
    if rng.random() < shape.dropped:
        at += rng.uniform(0.2, shape.dropped_for)
    elif rng.random() < shape.displaced:
        at += rng.uniform(0, shape.displacement)
    found = [(at, rng.randrange(ingresses))]
    if rng.random() < shape.doubled:
        found.append((at + rng.choice([0.0, rng.uniform(0, 2)]), rng.randrange(ingresses)))
    return found


class _Every:
    """Due once in every ``period`` seconds."""

    def __init__(self, period: float, first: float) -> None:
        self._period = period
        self._next = period * first

    def due(self, at: float) -> bool:
        if not self._period or at < self._next:
            return False
        self._next += self._period
        return True


class _Team:
    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self._seq = rng.randint(1, 10_000)
        self._prospects = [f"{name}-p{number}" for number in range(rng.randint(3, 8))]
        self._members = [f"{name}-m{number}" for number in range(4)]

    def next(self, rng: random.Random, shape: Shape, at: datetime, trouble: dict[str, Any]) -> Message:
        """The team's next event; some numbers before it may go to types that this webhook does not get."""
        self._seq += 1 + (rng.randint(1, 3) if rng.random() < shape.skipped else 0)
        prospect = rng.choice(self._prospects)
        assignee = rng.choice(self._members) if rng.random() < 0.8 else None
        drawn = 0.0 if trouble else rng.random()
        kind = "prospect.assigneeChanged"
        if drawn > 1 - shape.others:
            return message(self.name, self._seq, at, kind=rng.choice(OTHERS))
        if drawn > 1 - shape.others - shape.echoes:
            kind = "thread.assigned" if assignee else "thread.unassigned"
        return message(self.name, self._seq, at, kind=kind, prospect=prospect, assignee=assignee, trouble=trouble)


def message(
    team: str,
    seq: int,
    at: datetime,
    *,
    kind: str = "prospect.assigneeChanged",
    prospect: str | None = None,
    assignee: str | None = None,
    trouble: Mapping[str, Any] | None = None,
) -> Message:
    """An event as the provider sends it; ``prospect`` is None for one that names no owner."""
    key = f"{team}-e{seq}"
    person = {"platform": "twitter", "platformId": "1876543210987654321", "externalId": prospect}
    data: dict[str, Any] = {"chaos": trouble or {}}
    if kind == "prospect.assigneeChanged":
        data["prospect"] = {**person, "context": {"tags": [], "assigneeId": assignee}}
    elif prospect is not None:
        data["thread"] = {"id": f"{key}-t", "assigneeId": assignee, "prospect": person}
    at_ms = int(at.timestamp() * 1000)
    document = {
        "id": key,
        "seq": seq,
        "teamId": team,
        "type": kind,
        "timestamp": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "version": "1.0",
        "data": data,
    }
    return Message(
        key=key,
        team=team,
        seq=seq,
        type=kind,
        at_ms=at_ms,
        prospect=prospect,
        names_owner=prospect is not None,
        assignee=assignee,
        body=json.dumps(document).encode(),
    )


def _odd(kind: Any, number: int, team: str) -> Message:
    """A signed body that is no event, or an event without a signature."""
    key = f"{kind}-{number}"
    if kind == "unreadable":
        return Message(
            key=key, kind=kind, team=team, body=b'{"teamId": "' + team.encode() + b'", "cut": "' + key.encode()
        )
    body = json.dumps({"id": key, "seq": 1, "teamId": team, "type": "message.created"}).encode()
    return Message(key=key, kind=kind, team=team, body=body)
