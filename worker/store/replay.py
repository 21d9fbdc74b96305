"""Gives released events to a handler again, piece by piece, so that it can be stopped anywhere and gone on with.

How far a replay is in a partition is written in the same step as the jobs (replay.lua): no crash repeats or skips any.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import redis

from worker.core import archive as records
from worker.core.archive import Record
from worker.core.changes import Owner
from worker.core.envelope import Envelope, Unreadable, read
from worker.core.handlers import HandlerSpec
from worker.core.replaying import Again, Skip, Wanted, choose
from worker.errors import StoreError
from worker.store import keys as all_keys
from worker.store.archive import Archive
from worker.store.client import unavailable_as_error
from worker.store.pages import as_mapping
from worker.store.records import decode_owner
from worker.store.scripts import Word

PIECE: Final = 100  # events written by one script
TRIES: Final = 20  # a piece whose records keep changing while they are decided on
TOGETHER: Final = 16  # bodies read at once: each may have a megabyte

_encode: Final = msgspec.json.encode


class Plan(msgspec.Struct, frozen=True):
    """What a replay was asked for. ``ends`` has, for each partition, the position after its newest record then: what is
    released later reaches the handler anyway. ``at`` is server ms."""

    id: str
    handler: str
    by: str
    at: int
    force: bool
    ends: tuple[int, ...]
    team: str | None = None
    prospect: str | None = None
    type: str | None = None
    since: int | None = None
    until: int | None = None

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.team, self.prospect, self.type, self.since, self.until)


_decode_plan: Final = msgspec.json.Decoder(Plan).decode


class ReplaysElsewhere(StoreError):
    """Another process goes on with the same replay."""


@dataclass(slots=True)
class Step:
    """One piece: how many records were looked at, replayed, and skipped for what reason."""

    records: int
    replayed: int
    skipped: Counter[Skip] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Item:
    position: int
    record: Record
    event: Envelope | None
    ended: str
    owner: bytes

    @property
    def known(self) -> Owner | None:
        return decode_owner(self.owner) if self.owner else None


class Replay:
    """One replay in one partition. Every method may raise ``StoreUnavailable``."""

    def __init__(self, archive: Archive, plan: Plan, spec: HandlerSpec) -> None:
        self._archive = archive
        self._client = archive.client
        self._scripts = archive.scripts
        self._keys = keys = archive.keys
        self._plan = plan
        self._spec = spec
        ready, blocked = keys.ready(spec.name), keys.blocked(spec.name)
        self._names = [keys.archive, keys.ledger, keys.refs, keys.inbox, ready, blocked, keys.ends, keys.replays]
        self._names.append(keys.lane(spec.name, ""))

    def steps(self, piece: int = PIECE, *, dry: bool = False) -> Iterator[Step]:
        """Go on from where this replay is to its end. ``dry`` counts only, from the beginning, and writes nothing.

        Raises ``ReplaysElsewhere`` when another process moves it on meanwhile.
        """
        with unavailable_as_error():
            stored: Any = None if dry else self._client.hget(self._keys.replays, self._plan.id)
        where = "" if stored is None else stored.decode()
        end = self._plan.ends[self._keys.partition]
        while int(where or 0) < end:
            step, position = self._step(where, min(piece, end - int(where or 0)), dry=dry)
            where = str(min(position, end))
            yield step

    def _step(self, where: str, count: int, *, dry: bool) -> tuple[Step, int]:
        for _ in range(TRIES):
            piece = self._archive.read(int(where or 0), count)
            over = max(0, piece.position + len(piece.records) - self._plan.ends[self._keys.partition])
            found = piece.records[: len(piece.records) - over]
            position = piece.position + len(found) if found else self._plan.ends[self._keys.partition]
            step, jobs = self._decide(piece.position, found)
            if dry or self._write(where, position, jobs):
                return step, position
        raise StoreError(f"partition {self._keys.partition}: its archive changes faster than it can be read")

    def _decide(self, first: int, found: Sequence[Record]) -> tuple[Step, list[tuple[_Item, Again]]]:
        step = Step(len(found), 0)
        jobs = []
        for item in self._items(first, found):
            choice = choose(
                item.record,
                item.event,
                self._spec,
                self._plan.wanted,
                ended=item.ended.partition(" ")[0],
                owner=item.known,
                force=self._plan.force,
            )
            if isinstance(choice, Again):
                jobs.append((item, choice))
            else:
                step.skipped[choice] += 1
        step.skipped[Skip.OTHER] += sum(not self._plan.wanted.by_time(record) for record in found)
        step.replayed = len(jobs)
        return step, jobs

    def _items(self, first: int, found: Sequence[Record]) -> Iterator[_Item]:
        placed = [(first + at, one) for at, one in enumerate(found) if self._plan.wanted.by_time(one)]
        for start in range(0, len(placed), TOGETHER):
            some = placed[start : start + TOGETHER]
            with unavailable_as_error():
                pipe = self._client.pipeline(transaction=False)
                for _, record in some:
                    pipe.xrange(self._keys.inbox, record.job.entry, record.job.entry)
                    pipe.hget(self._keys.ends, f"{record.job.entry} {self._spec.name}")
                answers = pipe.execute()
                events = [_event(answer) for answer in answers[::2]]
                named = [event for event in events if event is not None and event.prospect is not None]
                names = [self._keys.owner(event.team, event.prospect or "") for event in named]
                owners: Any = self._client.mget(names) if names else []
            known = dict(zip(names, owners, strict=True))
            for (position, record), event, ended in zip(some, events, answers[1::2], strict=True):
                owner = known.get(self._keys.owner(event.team, event.prospect or "")) if event else None
                yield _Item(position, record, event, (ended or b"").decode(), owner or b"")

    def _write(self, where: str, position: int, jobs: Sequence[tuple[_Item, Again]]) -> bool:
        names = list(self._names)
        words: list[Word] = [self._spec.name, self._plan.id, where, position]
        for item, again in jobs:
            event, record = item.event, item.record
            assert event is not None
            text = records.text_of(record)
            handlers = record.handlers if self._spec.name in record.handlers else [*record.handlers, self._spec.name]
            index = 0
            if event.prospect is not None:
                names.append(self._keys.owner(event.team, event.prospect))
                index = len(names)
            words += (item.position, text, records.text_of(record._replace(handlers=handlers)), again.lane, again.job)
            words += (item.ended, index, item.owner)
        answer = self._scripts.run("replay", names, words)
        if answer == b"elsewhere":
            raise ReplaysElsewhere(f"replay {self._plan.id} is gone on with by another process")
        return bool(answer == b"ok")


class Replays:
    """The replays that are not finished yet, by id. Every method may raise ``StoreUnavailable``."""

    def __init__(self, client: redis.Redis, prefix: str, archives: Sequence[Archive]) -> None:
        self._client = client
        self._key = all_keys.replays(prefix)
        self._archives = archives

    def plan(self, handler: str, by: str, wanted: Wanted, *, now: int, force: bool) -> Plan:
        """What is asked for, with where the archives end now; not written down before ``save``."""
        ends = tuple(archive.end() for archive in self._archives)
        name = f"{handler}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now / 1000))}-{now % 1000:03d}"
        team, prospect, kind, since, until = wanted.team, wanted.prospect, wanted.type, wanted.since, wanted.until
        return Plan(name, handler, by, now, force, ends, team, prospect, kind, since, until)

    def save(self, plan: Plan) -> None:
        with unavailable_as_error():
            self._client.hset(self._key, plan.id, _encode(plan))

    def all(self) -> Mapping[str, Plan]:
        with unavailable_as_error():
            stored: Any = self._client.hgetall(self._key)
        return {name.decode(): _decode_plan(text) for name, text in sorted(stored.items())}

    def forget(self, plan_id: str) -> None:
        """It is finished, or will not be gone on with.

        The plan goes first: a plan without its positions, were the process to end here, would be gone on with from the
        beginning, and everything given again. Positions without a plan are taken away by whoever forgets next.
        """
        with unavailable_as_error():
            self._client.hdel(self._key, plan_id)
            pipe = self._client.pipeline(transaction=False)
            for archive in self._archives:
                pipe.hgetall(archive.keys.replays)
            # Positions are read before the plans: of a replay that begins meanwhile the plan is there first.
            positions = pipe.execute()
            client: Any = self._client
            plans = set(client.hgetall(self._key))
            pipe = self._client.pipeline(transaction=False)
            for archive, names in zip(self._archives, positions, strict=True):
                if stray := set(names) - plans:
                    pipe.hdel(archive.keys.replays, *stray)
            pipe.execute()


def _event(answer: Any) -> Envelope | None:
    if not answer:
        return None
    fields = as_mapping(answer[0][1])
    team = fields.get(b"t")
    try:
        return read(fields.get(b"b", b""), None if team is None else team.decode(errors="replace"))
    except Unreadable:
        return None
