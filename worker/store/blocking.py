"""Lanes that a person has to do with: looks at them, pauses them, lets them on.

A lane is blocked while it is in ``blocked:H``: because a person paused it, or because its first job ran out of attempts
and its handler may skip none. Nothing of it is called then; what comes to it waits. See lua/pause.lua, lua/unblock.lua.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Final

import msgspec
import redis

from worker.core.lanes import escaped, team_of
from worker.store.client import unavailable_as_error
from worker.store.keys import PartitionKeys
from worker.store.lanes import Attempt
from worker.store.pages import milliseconds
from worker.store.scripts import Scripts

TIMES: Final = 10**12  # scores below are no times, but turns of lanes that are due (lua/claim.lua)
PAGE: Final = 256  # lanes in one script, or in one page of names


class Why(StrEnum):
    """Why a lane is blocked."""

    PAUSED = "paused"
    EXHAUSTED = "exhausted"


class State(StrEnum):
    """How a lane is, those first that need a person."""

    EXHAUSTED = "blocked"
    PAUSED = "paused"
    BACKING_OFF = "backing off"
    RUNNING = "running"
    DUE = "due"
    EMPTY = "empty"


class Blocked(msgspec.Struct):
    """What ``blocked:H`` says of a lane. ``at`` is server ms, ``by`` a person or the handler, ``error`` a class."""

    why: Why
    at: int = 0
    by: str = ""
    error: str = ""


_decode_blocked: Final = msgspec.json.Decoder(Blocked).decode
_decode_attempts: Final = msgspec.json.Decoder(list[Attempt]).decode


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane as it is. ``due`` is when it is next called, server ms, None for never. ``attempts`` are those of its
    first job, ``error`` is the class of the last that failed, ``oldest`` when that job's event came in."""

    partition: int
    handler: str
    lane: str
    now: int
    waiting: int
    due: int | None
    claimed: bool
    attempts: int
    error: str | None
    oldest: int | None
    blocked: Blocked | None

    @property
    def team(self) -> str:
        return team_of(self.lane)

    @property
    def state(self) -> State:
        if self.claimed and self.due is not None and self.due > self.now:
            return State.RUNNING
        if self.blocked is not None:
            return State.PAUSED if self.blocked.why is Why.PAUSED else State.EXHAUSTED
        if not self.waiting:
            return State.EMPTY
        return State.BACKING_OFF if self.due is not None and self.due > self.now else State.DUE


def names(client: redis.Redis, keys: PartitionKeys, handler: str, team: str | None = None) -> Iterator[str]:
    """Lanes that have jobs, those first that are due first; with ``team``, only this one's. May name one twice.

    Raises ``StoreUnavailable``.
    """
    ready = keys.ready(handler)
    if team is not None:
        name = escaped(team)
        yield name
        yield from _scanned(client.zscan, ready, f"{_literally(name)}:*")
        return
    start = 0
    while True:
        with unavailable_as_error():
            page: Any = client.zrange(ready, start, start + PAGE - 1)
        yield from (lane.decode() for lane in page)
        if len(page) < PAGE:
            return
        start += PAGE


def blocked_names(
    client: redis.Redis,
    keys: PartitionKeys,
    handler: str,
    why: Why | None = None,
    *,
    team: str | None = None,
    error: str | None = None,
) -> Iterator[str]:
    """Lanes that are blocked, for that reason and by that class of error, of that team (None: any). May name one twice.

    Raises ``StoreUnavailable``.
    """
    cursor = 0
    while True:
        with unavailable_as_error():
            answer: Any = client.hscan(keys.blocked(handler), cursor, count=PAGE)
        cursor, page = answer
        for name, text in page.items():
            lane, facts = name.decode(), _decode_blocked(text)
            wanted = why in (None, facts.why) and team in (None, team_of(lane))
            if wanted and error in (None, facts.error, facts.error.rpartition(".")[2]):
                yield lane
        if not cursor:
            return


def troubled_names(client: redis.Redis, keys: PartitionKeys, handler: str) -> Iterator[str]:
    """Lanes whose first job has failed before. May name one twice. Raises ``StoreUnavailable``."""
    yield from _scanned(client.hscan, keys.trouble(handler), None)


def look_at(scripts: Scripts, keys: PartitionKeys, handler: str, lanes: Iterable[str]) -> Iterator[Lane]:
    """The lanes as they are, each at its own moment. Raises ``StoreUnavailable``."""
    found = [keys.ready(handler), keys.claims(handler), keys.trouble(handler), keys.blocked(handler)]
    left = iter(lanes)
    while page := list(islice(left, PAGE)):
        now, *rows = scripts.run("peek", [*found, keys.lane(handler, "")], page)
        for lane, (waiting, due, claim, trouble, blocked, first) in zip(page, rows, strict=True):
            holder, attempts = (int(word) for word in claim.split()[:2]) if claim else (0, 0)
            failed = _decode_attempts(trouble) if trouble else []
            yield Lane(
                partition=keys.partition,
                handler=handler,
                lane=lane,
                now=now,
                waiting=waiting,
                due=_time(due, now),
                claimed=holder != 0,
                attempts=attempts,
                error=failed[-1].error if failed else None,
                oldest=milliseconds(first.split(b" ", 1)[0].decode()) if first else None,
                blocked=_decode_blocked(blocked) if blocked else None,
            )


def pause(scripts: Scripts, keys: PartitionKeys, handler: str, lanes: Sequence[str], by: str) -> list[str]:
    """Pause lanes: for each ``paused`` or ``already``. Raises ``StoreUnavailable``."""
    touched = [keys.ready(handler), keys.claims(handler), keys.blocked(handler)]
    return [answer.decode() for answer in scripts.run("pause", touched, [by, *lanes])]


def unblock(
    scripts: Scripts, keys: PartitionKeys, handler: str, lanes: Sequence[str], why: Why, *, give_up: bool = False
) -> list[str]:
    """Let lanes on that are blocked because of ``why``: for each ``freed``, ``buried`` (its first job was given up),
    ``not`` (it is not blocked because of that) or ``claimed`` (somebody has it). Raises ``StoreUnavailable``."""
    touched = [keys.ready(handler), keys.claims(handler), keys.trouble(handler), keys.blocked(handler)]
    touched += [keys.refs, keys.inbox, keys.ledger, keys.dead, keys.ends, keys.lane(handler, ""), keys.missed(handler)]
    return [answer.decode() for answer in scripts.run("unblock", touched, [handler, why, int(give_up), *lanes])]


def _time(score: bytes, now: int) -> int | None:
    """When a lane is due, by its score in ``ready``: a time, a turn that it takes now, or never."""
    if score in {b"", b"inf"}:
        return None
    due = int(float(score))
    return due if due >= TIMES else now


def _scanned(scan: Any, key: str, match: str | None) -> Iterator[str]:
    """Members of one sorted set, or fields of one hash, a page at a time."""
    cursor = 0
    while True:
        with unavailable_as_error():
            cursor, page = scan(key, cursor, match=match, count=PAGE)
        for each in page:
            yield (each[0] if isinstance(each, tuple) else each).decode()
        if not cursor:
            return


def _literally(text: str) -> str:
    """``text`` as a pattern of the server's that matches itself only."""
    return "".join(f"\\{letter}" if letter in "*?[]^-\\" else letter for letter in text)
