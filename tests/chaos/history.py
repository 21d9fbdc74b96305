"""What happened in a run, as data: everything that the checks look at, and nothing else.

Times are seconds of the monotonic clock. A history can be written by hand, which is how the checks are tested.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

FOREVER: Final = float("inf")

Ordering = Literal["team", "prospect"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Message:
    """Something that the provider sends. ``key`` is the event's id; unreadable and unsigned bodies have one of ours.

    ``names_owner``: the event says who owns ``prospect`` from now on: ``assignee``, or nobody.
    """

    key: str
    kind: Literal["event", "unreadable", "unsigned"] = "event"
    team: str = ""
    seq: int = 0
    type: str = "prospect.assigneeChanged"
    at_ms: int = 0
    prospect: str | None = None
    names_owner: bool = False
    assignee: str | None = None
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Post:
    """One attempt of the provider: sent, and answered with a status, or with 0 when no answer came."""

    key: str
    sent: float
    answered: float
    status: int
    ingress: int = 0


@dataclass(frozen=True)
class Call:
    """One call of a handler. ``end`` is None when its process did not live to write it.

    ``outcome``: done, failed (it raised), or cut (no end was written).
    """

    handler: str
    key: str
    team: str
    seq: int
    start: float
    end: float | None
    outcome: Literal["done", "failed", "cut"] = "done"
    pid: int = 0
    prospect: str | None = None
    assignee: str | None = None
    late: bool = False
    stale: bool = False
    attempt: int = 1
    absorbed: tuple[str, ...] = ()

    def __str__(self) -> str:
        marks = "".join(f" {name}" for name in ("late", "stale") if getattr(self, name))
        ended = self.outcome if self.end is None else f"{self.outcome} {self.end:.3f}"
        return (
            f"{self.handler}({self.team} {self.seq} {self.key}{marks}) at {self.start:.3f} by {self.pid}, "
            f"attempt {self.attempt}, {ended}"
        )


@dataclass(frozen=True)
class Fault:
    """Something that was broken from ``begin`` to ``end``. ``pids``: the processes that it happened to; none means that
    it was the server's, the broker's or the network's, and so everybody's.

    ``crash``: work may be repeated because of it.
    """

    kind: str
    begin: float
    end: float
    target: str = ""
    pids: tuple[int, ...] = ()
    crash: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.target} {self.begin:.3f}-{self.end:.3f}"


@dataclass(frozen=True)
class Taken:
    """A process got a lease, between ``asked`` and ``at``, of the lane or partition that ``what`` names. No two leases
    have the same ``token``."""

    what: str
    token: int
    asked: float
    at: float
    pid: int = 0


@dataclass(frozen=True)
class Committed:
    """A process wrote under a lease after ``sent``, and the server said whether that is ``accepted``."""

    what: str
    token: int
    sent: float
    accepted: bool
    pid: int = 0


@dataclass(frozen=True)
class Terms:
    """What the checks have to know of a handler. ``changes``: it gets changes of owners, else every event."""

    name: str
    order_by: Ordering = "team"
    changes: bool = True
    conflates: bool = False


@dataclass(frozen=True)
class Books:
    """What the server says in the end, added up over all partitions. ``counts`` are the ledger's.

    ``unfinished`` is what still waits in any form. ``dead``: (handler, event id). ``quarantined``: bodies, as often as
    they are there, and event ids that were too old. ``audit``: what ``handoff audit`` found, empty if the books add up.
    """

    accepted: int = 0
    unfinished: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    dead: Collection[tuple[str, str]] = ()
    quarantined: Sequence[bytes] = ()
    too_old: Collection[str] = ()
    audit: Sequence[str] = ()


@dataclass(frozen=True)
class History:
    """A whole run, from ``began`` to ``ended``. ``nobody``: when no worker was there that reads a handler's queue, as
    while the only one starts again."""

    messages: Sequence[Message] = ()
    posts: Sequence[Post] = ()
    calls: Sequence[Call] = ()
    faults: Sequence[Fault] = ()
    taken: Sequence[Taken] = ()
    committed: Sequence[Committed] = ()
    handlers: Sequence[Terms] = ()
    books: Books = field(default_factory=Books)
    nobody: Mapping[str, Sequence[Interval]] = field(default_factory=dict)
    ended: float = 0.0
    began: float = 0.0

    @cached_property
    def message(self) -> dict[str, Message]:
        return {message.key: message for message in self.messages}

    @cached_property
    def accepted_at(self) -> dict[str, float]:
        """When each message was first answered 202."""
        found: dict[str, float] = {}
        for post in sorted(self.posts, key=lambda post: post.answered):
            if post.status == 202:
                found.setdefault(post.key, post.answered)
        return found

    @cached_property
    def accepted_events(self) -> list[Message]:
        return [message for message in self.messages if message.kind == "event" and message.key in self.accepted_at]

    @cached_property
    def calls_of(self) -> dict[str, list[Call]]:
        """Each handler's calls, by start."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in sorted(self.calls, key=lambda call: call.start):
            found[call.handler].append(call)
        return found

    def lanes(self, terms: Terms) -> dict[tuple[str, str], list[Call]]:
        """A handler's calls by lane (team, or team and prospect), by start."""
        found: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call in self.calls_of.get(terms.name, []):
            prospect = call.prospect or "" if terms.order_by == "prospect" else ""
            found[call.team, prospect].append(call)
        return found


@dataclass(frozen=True)
class Finding:
    """An invariant of the design, by its number, and whether it held. ``evidence``: what broke it, a line each;
    ``checked``: what was looked at, in words."""

    number: int
    name: str
    checked: str
    evidence: Sequence[str] = ()

    @property
    def held(self) -> bool:
        return not self.evidence
