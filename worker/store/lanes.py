"""A handler's lanes in one partition: claim ready ones, keep them while their jobs run, write what became of them.

A lane is ready when its time in the sorted set has come. Claiming moves that time to the end of the lease and leaves a
token; only the token's owner can settle or renew. A process that dies, or stops for too long, simply lets the time
come: somebody else claims the lane, and the late settling of the first is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final, NamedTuple

import msgspec
import redis

from worker.core.jobs import Job, decode
from worker.core.lanes import team_of
from worker.doorbell import BELL_LIFE_MS
from worker.store.bodies import fetch
from worker.store.conflation import Conflation, Found
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts, Word
from worker.store.tokens import new_token

LEASE_MS: Final = 4000
"""How long a claimed lane is safe without a renewal: the longest that a crash delays it. Renewed every second."""


def lease_end() -> float:
    """When a lease that is asked for now runs out at the earliest: the server's begins when it is asked, or later."""
    return time.monotonic() + LEASE_MS / 1000


BODIES_ALONG: Final = 8
"""Jobs of a claim whose bodies come along with it: on an idle system somebody waits for each round trip. Of more,
ranges cost the server less (store/bodies.py)."""

MOST_BYTES: Final = 4 * 1024 * 1024  # of bodies in one claim, so that a worker's memory is bounded


class Attempt(msgspec.Struct, array_like=True):
    """A failed attempt, kept with the lane while it lasts and with the dead letter after.

    ``at`` is server ms, 0 where nobody knows. ``since`` is when calls of this number began to fail uncounted, 0 for
    one that counted: of those the last is kept.
    """

    number: int
    at: int
    error: str
    text: str
    since: int = 0


_decode_attempts: Final = msgspec.json.Decoder(list[Attempt]).decode
_encode: Final = msgspec.json.encode


class ClaimedJob(NamedTuple):
    """A job with the body of its event, and whose event it is. An empty body was lost."""

    job: Job
    body: bytes
    team: str


@dataclass(frozen=True, slots=True)
class ClaimedLane:
    """A lane in our hands. ``attempt`` is the number of the first job's present attempt where jobs are claimed one by
    one, else 0: then each is on its first. ``crashed``: whoever had the lane before us never gave it back. ``waiting``
    counts all of the lane's jobs, the claimed ones among them. ``careful``: its jobs come one by one, and should their
    process die, the lane's first job is held to blame."""

    lane: str
    attempt: int
    crashed: bool
    failed: Sequence[Attempt]
    jobs: Sequence[ClaimedJob]
    waiting: int = 0
    careful: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What ``claim`` got: lanes under one ``token``. ``more``: other lanes are ready now. ``next_due``: server ms.

    ``dropped`` are lanes that were claimed too, and are not ours any more: conflation left nothing of them, or took up
    the time that there was. ``until``: when the lease runs out at the earliest, by this machine's monotonic clock.
    """

    token: int
    now: int
    more: bool
    next_due: int | None
    lanes: Sequence[ClaimedLane]
    dropped: Sequence[str] = ()
    until: float = inf


class Action(StrEnum):
    """What happens to a lane after its finished jobs have left it (settle.lua)."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    RETURN = "return"
    APART = "apart"
    BLOCK = "block"
    BURY = "bury"


class Dead(NamedTuple):
    """How a job was given up: its attempts, those that failed, and the error that ended it."""

    attempts: int
    failed: Sequence[Attempt]
    error: str
    text: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a lane claimed under ``token``: so many jobs done and discarded from its head, then ``action``.

    For RETRY and BLOCK, ``delay_ms`` and the attempts so far; for RETURN and APART, those attempts; BURY gives up the
    job that is first then, with those and the error that ended it, and releases the lane.

    Where jobs ended in another order, ``ended`` has a letter for each from the head of the lane, and the counts are not
    used: ``d`` done, ``x`` discarded, ``D`` given up (its details are next in ``dead``); ``.``, ``-``, ``+``, ``o`` and
    ``O`` stay.
    """

    token: int
    lane: str
    done: int = 0
    discarded: int = 0
    action: Action = Action.RELEASE
    delay_ms: int = 0
    attempts: int = 0
    failed: Sequence[Attempt] = ()
    error: str = ""
    text: str = ""
    ended: str = ""
    dead: Sequence[Dead] = ()

    @property
    def leaving(self) -> int:
        """How many jobs leave the lane."""
        ended = sum(self.ended.count(letter) for letter in "dxD") if self.ended else self.done + self.discarded
        return ended + (self.action is Action.BURY)

    def words(self, writes: int | None) -> list[Word]:
        """The settlement as ``settle.lua`` takes it. ``writes``: how often its owner has written the lane, if known."""
        ended, dead, action = self.ended or "d" * self.done + "x" * self.discarded, list(self.dead), self.action
        if action is Action.BURY:
            ended, action = ended + "D", Action.RELEASE
            dead.append(Dead(self.attempts, self.failed, self.error, self.text))
        words: list[Word] = [self.token, self.lane, "" if writes is None else writes, ended, action]
        words += (self.delay_ms, self.attempts, _encode(self.failed), self.error, len(dead))
        for letter in dead:
            words += (letter.attempts, _encode(letter.failed), letter.error, letter.text)
        return words


class LaneStore:
    """The lanes of one handler in one partition. Every method may raise ``StoreUnavailable``."""

    def __init__(
        self,
        client: redis.Redis,
        scripts: Scripts,
        keys: PartitionKeys,
        handler: str,
        *,
        wide: bool = False,
        team_rate: tuple[int, int] = (0, 1),
        conflate: bool = False,
    ) -> None:
        """``wide``: a team may have many lanes. ``team_rate``: calls of one team in so many ms; 0 calls: any number.
        ``conflate``: lanes are compacted when they are claimed (store/conflation.py)."""
        self._client = client
        self._scripts = scripts
        self._handler = handler
        self._terms = [MOST_BYTES, int(wide), *team_rate]
        self._bodies_along = 0 if conflate else BODIES_ALONG  # of an absorbed job none is fetched
        ready, claims, trouble = keys.ready(handler), keys.claims(handler), keys.trouble(handler)
        lanes = keys.lane(handler, "")
        self._claim_keys = [ready, claims, trouble, keys.runner_bell(handler), lanes, keys.blocked(handler)]
        self._claim_keys += [keys.turns(handler), keys.team_rate(handler, ""), keys.parked(handler), keys.inbox]
        self._fill_keys = [ready, keys.runner_bell(handler), lanes]
        self._inbox = keys.inbox
        self._settle_keys = [ready, claims, trouble, keys.refs, keys.inbox, keys.ledger, keys.dead]
        self._settle_keys += [keys.blocked(handler), keys.ends, lanes, keys.missed(handler)]
        self._renew_keys = [ready, claims]
        self._conflation = Conflation(client, scripts, keys, handler, LEASE_MS) if conflate else None
        self._writes: dict[tuple[int, str], int] = {}  # (token, lane) that we claimed -> how often we wrote it since

    def fill(self, jobs: int, wait_ms: int) -> int:
        """How many ms longer to wait for ``jobs`` jobs to be ready; 0 when they are, or ``wait_ms`` are over."""
        return int(self._scripts.run("fill", self._fill_keys, [jobs, wait_ms]))

    def claim(self, *, lanes: int, jobs: int, per_lane: int) -> Claim:
        """Claim up to so many ready lanes and jobs. None ready is an empty claim, not an error."""
        token, until = new_token(), lease_end()
        now, more, next_due, along, *found = self._scripts.run(
            "claim", self._claim_keys, [LEASE_MS, lanes, jobs, per_lane, *self._terms, token, self._bodies_along]
        )
        lanes_found = [
            Found(lane.decode(), attempt, bool(how & 1), bool(how & 2), trouble, waiting, texts)
            for lane, attempt, how, trouble, waiting, *texts in found
        ]
        self._writes |= {(token, item.lane): 0 for item in lanes_found}
        kept = lanes_found if self._conflation is None else self._compacted(token, lanes_found)
        return Claim(
            token=token,
            now=now,
            more=bool(more),
            next_due=int(float(next_due)) if next_due else None,
            lanes=self._with_bodies(kept, along),
            dropped=sorted({item.lane for item in lanes_found} - {item.lane for item in kept}),
            until=until,
        )

    def _compacted(self, token: int, found: list[Found]) -> list[Found]:
        """The lanes to go on with; no body was fetched yet, so none of an absorbed job ever is."""
        assert self._conflation is not None
        ready, late = self._conflation.compact(token, found)
        for item in found:
            self._writes[token, item.lane] = item.writes
        for name in {item.lane for item in found} - {item.lane for item in (*ready, *late)}:
            del self._writes[token, name]
        if late:
            self.settle(
                [
                    Settlement(token, item.lane, action=Action.RETURN, attempts=item.attempt - 1, failed=_failed(item))
                    if item.attempt
                    else Settlement(token, item.lane)
                    for item in late
                ]
            )
        return ready

    def _with_bodies(self, found: Sequence[Found], along: Sequence[bytes]) -> list[ClaimedLane]:
        """``along``: entry, body, entry, ... of all jobs, or nothing."""
        lanes = [(item, [decode(text) for text in item.texts]) for item in found]
        if along:
            bodies = {entry.decode(): body for entry, body in zip(along[::2], along[1::2], strict=True)}
        else:
            bodies = fetch(self._client, self._inbox, [job.entry for _, decoded in lanes for job in decoded])
        return [
            ClaimedLane(
                lane=item.lane,
                attempt=item.attempt,
                crashed=item.crashed,
                failed=_failed(item),
                # The lane says whose events these are before anybody has parsed a body.
                jobs=_jobs(decoded, bodies, team_of(item.lane)),
                waiting=item.waiting,
                careful=item.careful,
            )
            for item, decoded in lanes
        ]

    def settle(self, settlements: Sequence[Settlement]) -> Mapping[str, bool]:
        """Write outcomes. For each lane that was still ours: whether it has jobs left; the lost ones are missing.

        Lost is also a lane of which the server does not know what we wrote last (lua/settle.lua).
        """
        words: list[Word] = [LEASE_MS, self._handler]
        for item in settlements:
            words += item.words(self._writes.get((item.token, item.lane)))
        answers = self._scripts.run("settle", self._settle_keys, words)
        for item, answer in zip(settlements, answers, strict=True):
            written = self._writes.pop((item.token, item.lane), None)
            if written is not None and answer >= 0 and item.action is Action.HOLD:
                self._writes[item.token, item.lane] = written + 1
        return {item.lane: bool(answer) for item, answer in zip(settlements, answers, strict=True) if answer >= 0}

    def renew(self, lanes: Iterable[tuple[int, str]]) -> list[str]:
        """Keep (token, lane) pairs for another lease; answers with the lanes that are no longer theirs."""
        words = [word for pair in lanes for word in pair]
        return [lane.decode() for lane in self._scripts.run("renew", self._renew_keys, [LEASE_MS, *words])]


def _failed(item: Found) -> Sequence[Attempt]:
    return _decode_attempts(item.trouble) if item.trouble else ()


def _jobs(decoded: Sequence[Job], bodies: Mapping[str, bytes], team: str) -> list[ClaimedJob]:
    return [ClaimedJob(job, bodies.get(job.entry, b""), team) for job in decoded]


@dataclass(frozen=True, slots=True)
class Due:
    """What the sweeper has to ring for in one partition; in ``in_ms`` milliseconds there will be more."""

    partition: int
    sequencer: bool
    handlers: Sequence[str]
    in_ms: int | None


def due(scripts: Scripts, keys: PartitionKeys, handlers: Sequence[str]) -> Due:
    """What of a partition is due and has no bell on its way; marks the bells as rung. Raises ``StoreUnavailable``."""
    fixed = [keys.state, keys.inbox, keys.gaps, keys.bell, keys.lease]
    per_handler = [key for name in handlers for key in (keys.ready(name), keys.runner_bell(name))]
    in_ms, sequencer, *ring = scripts.run("due", fixed + per_handler, [BELL_LIFE_MS])
    return Due(
        partition=keys.partition,
        sequencer=bool(sequencer),
        handlers=[name for name, wanted in zip(handlers, ring, strict=True) if wanted],
        in_ms=int(in_ms) if in_ms else None,
    )
