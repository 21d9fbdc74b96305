"""Which fault begins when, on what, and for how long: a function of the seed alone.

Faults are dealt from a deck, so that all kinds come before any comes again. Those of the server, the broker and the
whole network come one at a time, and those of processes beside them, but one at a time for each process. After every
few there is a calm, long enough for the checks to tell what is forgotten from what is only late.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Whose = Literal["server", "worker", "ingress", "process"]


@dataclass(frozen=True)
class Kind:
    """A kind of fault: ``whose`` it is; it lasts ``least`` to ``most`` seconds; ``crash`` as in ``history.Fault``."""

    whose: Whose
    least: float = 0.0
    most: float = 0.0
    crash: bool = True


HALF_OPEN: Final = 10.0
"""Seconds: more than any client waits for an answer on a connection that leads nowhere. Then it is reset."""

KINDS: Final[Mapping[str, Kind]] = {
    "kill worker": Kind("worker"),
    "kill child": Kind("worker"),
    "kill ingress": Kind("ingress"),
    "stop worker": Kind("worker", 2, 12),
    "stop child": Kind("worker", 5, 12),
    "stop ingress": Kind("ingress", 1, 6),
    "terminate worker": Kind("worker", crash=False),
    "terminate ingress": Kind("ingress", crash=False),
    "kill server": Kind("server", 0.2, 8),
    "stop server": Kind("server", 1, 8),
    "read-only server": Kind("server", 1, 8),
    "full server": Kind("server", 1, 8),
    "paused server": Kind("server", 0.5, 4),
    "slow network": Kind("server", 2, 6),
    "cut connections": Kind("server"),
    "cut one's connections": Kind("process"),
    "half-open connections": Kind("server", HALF_OPEN, HALF_OPEN),
    "half-open connections of one": Kind("process", HALF_OPEN, HALF_OPEN),
    "black hole": Kind("server", 1, 6),
    "black hole for one": Kind("process", 3, 10),
    "lost bells": Kind("server", crash=False),
    "doubled bells": Kind("server", crash=False),
    "wrong clock": Kind("worker", 6, 12),
    "other code": Kind("worker", 6, 12),
}


class Step(NamedTuple):
    """A fault: at which second, of which kind, what number of what it is about, for how long, and a number to draw more
    from."""

    at: float
    kind: str
    target: int
    lasting: float
    draw: int


@dataclass(frozen=True)
class Rhythm:
    """Seconds: faults begin after ``first``, ``least`` to ``most`` apart, and end before ``until``; after ``together``
    of them there is a calm."""

    until: float
    first: float = 3.0
    least: float = 1.0
    most: float = 6.0
    together: int = 5
    calm: float = 26.0
    longest: float = 12.0


def make(seed: int, rhythm: Rhythm, *, workers: int, ingresses: int, kinds: Sequence[str] = tuple(KINDS)) -> list[Step]:
    """The faults of a run, by time."""
    rng = random.Random(f"schedule {seed}")
    steps: list[Step] = []
    free: dict[str, float] = {}  # what is broken -> when it is whole again
    deck: list[str] = []
    at, since_calm = rhythm.first, 0
    while True:
        if not deck:
            deck = rng.sample(list(kinds), len(kinds))
        name = deck.pop()
        kind = KINDS[name]
        workers_and_ingresses = workers + ingresses
        most = {"server": 1, "worker": workers, "ingress": ingresses, "process": workers_and_ingresses}[kind.whose]
        target = rng.randrange(most)
        lasting = rng.uniform(min(kind.least, rhythm.longest), min(kind.most, rhythm.longest))
        draw = rng.randrange(2**31)
        thing = resource(kind.whose, target, workers)
        at = max(at, free.get(thing, 0.0))
        if at + lasting >= rhythm.until:
            return steps
        steps.append(Step(round(at, 3), name, target, round(lasting, 3), draw))
        free[thing] = at + lasting + 1.0
        since_calm += 1
        at += rng.uniform(rhythm.least, rhythm.most)
        if since_calm == rhythm.together:
            since_calm = 0
            at = max([at, *free.values()]) + rhythm.calm


def resource(whose: Whose, target: int, workers: int) -> str:
    if whose == "server":
        return whose
    if whose == "process":
        whose, target = ("worker", target) if target < workers else ("ingress", target - workers)
    return f"{whose}-{target}"
