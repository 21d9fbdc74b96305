"""Sample deliveries: a little story for a first look, and long streams for load and for the storm test.

Both are made from the provider's own sample events (``sample_events/``), whose shapes they keep. Those files can't be
sent as they are: all three carry the same id. What is made is a function of the seed alone.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import accumulate
from typing import Any, Final, NamedTuple

ZIPF_EXPONENT: Final = 1.1
_EPOCH: Final = datetime(2025, 1, 15, 14, 20, tzinfo=UTC)  # the provider's samples' own time
_MARK: Final = "\x01"  # stands where a value goes in later; JSON text can't hold it unescaped
_FIRST: Final = ("Sarah", "Tomás", "Aiko", "Lena", "Ravi", "Maya", "Chidi", "Ines", "Jonas", "Wen")
_LAST: Final = ("Chen", "Okafor", "Sato", "Novak", "Patel", "Haddad", "Larsen", "Moreau", "Silva", "Kim")
_BIO: Final = (
    "Product designer. Building tools for the next generation of creators.",
    "Founder of two small companies, one of which works. Writes about pricing, hiring and the odd failed launch.",
    "Engineer turned seller. Helps teams talk to the people who like what they make. Runs, cooks, answers late.",
)


class SampleDelivery(NamedTuple):
    """One POST: the raw ``body`` (compact JSON, 1.3 to 1.7 KB), and what a test wants to know of it without parsing."""

    body: bytes
    team: str
    seq: int
    event_id: str


class Story(NamedTuple):
    """The deliveries of ``story`` in the order they are to be sent, and how many changes of owner are in them."""

    team: str
    deliveries: list[SampleDelivery]
    changes: int


def story(seed: int | None = None, *, now: datetime | None = None) -> Story:
    """A prospect of a new team is assigned, handed over and let go, as five deliveries of four events.

    The deprecated ``thread.assigned`` that echoes the hand-over arrives before it, out of order, and the hand-over
    arrives twice: three changes should come of it. Without a seed every call gives new ids.
    """
    rng = random.Random(seed)  # noqa: S311 - made-up people, not secrets
    team = _Team(rng, prospects=1)
    at = now or datetime.now(UTC)
    ada, ben = team.members[:2]
    assigned = team.event(0, ada, at)
    handed_over = team.event(0, ben, at + timedelta(milliseconds=200))
    echo = team.event(0, ben, at + timedelta(milliseconds=201), thread=True)
    let_go = team.event(0, None, at + timedelta(milliseconds=400))
    return Story(team.id, [assigned, echo, handed_over, handed_over, let_go], changes=3)


def stream(
    seed: int,
    events: int,
    teams: int,
    *,
    duplicates: float = 0.0,
    displacement: int = 0,
    gaps: float = 0.0,
    started: datetime = _EPOCH,
) -> list[SampleDelivery]:
    """``events`` distinct events of ``teams`` teams of Zipf(1.1) size, in the order in which they arrive.

    ``duplicates`` is the share of events that is delivered twice; ``displacement`` by how many places an arrival may be
    behind its turn; ``gaps`` the share of events before which some of the team's numbers were given to types that this
    webhook does not get. ``started`` is when the first one happened: what is sent gets the present time, for an event
    that is late and older than ids are remembered is quarantined. Every team has several prospects, and one event in
    eight is a deprecated thread event.
    """
    rng = random.Random(seed)  # noqa: S311 - made-up people, not secrets
    weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(teams)))
    turns = rng.choices(range(teams), cum_weights=weights, k=events)
    sizes = [0] * teams
    for index in turns:
        sizes[index] += 1
    made = [_Team(rng, prospects=max(3, min(200, size // 10))) for size in sizes]

    arrivals: list[tuple[float, SampleDelivery]] = []
    for turn, index in enumerate(turns):
        team = made[index]
        if gaps and rng.random() < gaps:
            team.seq += rng.randint(1, 3)
        owner = rng.choice(team.members) if rng.random() < 0.8 else None
        at = started + timedelta(milliseconds=turn)
        delivery = team.event(rng.randrange(len(team.prospects)), owner, at, thread=rng.random() < 0.125)
        # Whole and half places, so that a copy never ties with an original. It may come before it: they are the same.
        arrivals.append((turn + rng.randint(0, displacement), delivery))
        if duplicates and rng.random() < duplicates:
            arrivals.append((turn + rng.randint(0, max(1, displacement)) + 0.5, delivery))
    arrivals.sort(key=lambda arrival: arrival[0])
    return [delivery for _, delivery in arrivals]


class _Team:
    """A team that hands out its own sequence numbers."""

    def __init__(self, rng: random.Random, prospects: int) -> None:
        self._rng = rng
        self.id = _id(rng)
        self.seq = rng.randint(1, 100_000)
        self.members = [_id(rng) for _ in range(5)]
        self.prospects = [_Prospect(rng) for _ in range(prospects)]

    def event(self, prospect: int, owner: str | None, at: datetime, *, thread: bool = False) -> SampleDelivery:
        self.seq += 1
        event_id = _id(self._rng)
        name = "prospect.assigneeChanged"
        before, after = self.prospects[prospect].as_prospect
        if thread:
            name = "thread.assigned" if owner else "thread.unassigned"
            before, after = self.prospects[prospect].as_thread
        value = f'"{owner}"' if owner else "null"
        body = (
            f'{{"id":"{event_id}","seq":{self.seq},"teamId":"{self.id}","type":"{name}",'
            f'"timestamp":"{_timestamp(at)}","version":"1.0","data":{before}{value}{after}}}'
        )
        return SampleDelivery(body.encode(), self.id, self.seq, event_id)


class _Prospect:
    """A made-up person; the JSON around ``assigneeId``'s value is put together once, for it is nearly all of a body."""

    def __init__(self, rng: random.Random) -> None:
        first, last = rng.choice(_FIRST), rng.choice(_LAST)
        handle = f"{first}{last}{rng.randrange(1000)}".lower().encode("ascii", "ignore").decode()
        shared = {
            "platformId": str(rng.randrange(10**18, 2 * 10**18)),
            "externalId": _id(rng),
            "displayName": f"{first} {last}",
            "username": handle,
            "handle": f"@{handle}",
        }
        own = {
            **shared,
            "bio": f"{rng.choice(_BIO)} {rng.choice(_BIO)}",
            "profileUrl": f"https://x.com/{handle}",
            "websiteUrl": f"https://{handle}.example",
            "websiteDomain": f"{handle}.example",
            "followerCount": rng.randrange(20_000),
        }
        data = sample("prospect.assigneeChanged")["data"]
        data["prospect"].update(own)
        data["prospect"]["context"]["assigneeId"] = _MARK
        self.as_prospect = _around_mark(data)

        data = sample("thread.assigned")["data"]
        data["thread"].update(id=_id(rng), accountLinkId=_id(rng), assigneeId=_MARK)
        data["thread"]["prospect"].update(shared)
        data["thread"]["lastMessage"]["content"] = f"{rng.choice(_BIO)} Can you send over the pricing details?"
        self.as_thread = _around_mark(data)


def sample(event_type: str) -> dict[str, Any]:
    """The provider's own sample of an event type, parsed. Raises ``FileNotFoundError`` for a type that has none."""
    parsed: dict[str, Any] = json.loads(_sample_text(event_type))
    return parsed


@cache
def _sample_text(event_type: str) -> str:
    return resources.files("worker.ops").joinpath("sample_events", f"{event_type}.json").read_text("utf-8")


def _around_mark(data: dict[str, Any]) -> tuple[str, str]:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    before, after = text.split(json.dumps(_MARK))
    return before, after


def _id(rng: random.Random) -> str:
    """24 characters of ``[0-9a-z]``, as the provider's ids are (PROVIDER.md 2)."""
    return f"{rng.getrandbits(96):024x}"


def _timestamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
