"""Finds one event wherever it is, and what became of it: read-only, by the archive's index and never by key scans.

What the index does not know (unread, or gone from the archive) is looked for in the inbox and in the quarantine, entry
by entry up to a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import redis

from worker.core.archive import Record, decode, index_mark
from worker.core.envelope import Envelope, Unreadable, read
from worker.core.jobs import Job
from worker.core.jobs import decode as decode_job
from worker.core.lanes import ORDERS, escaped, lane_of
from worker.store.client import unavailable_as_error
from worker.store.dead import DeadLetter, dead_letter
from worker.store.keys import PartitionKeys
from worker.store.lanes import Attempt
from worker.store.pages import as_mapping
from worker.store.quarantine import Quarantined, quarantined
from worker.store.records import arrival_ms, decode_team

PAGE: Final = 500
MOST: Final = 100_000
"""Entries, jobs of a lane, or records that one search looks through."""

_decode_attempts: Final = msgspec.json.Decoder(list[Attempt]).decode


@dataclass(frozen=True, slots=True)
class Located:
    """An event's entry in an inbox. ``first_missing`` is the lowest number that it waited for when it was held, ``-``
    where no event of its team had been released; None: it was never held, or nobody knows."""

    keys: PartitionKeys
    entry: str
    event: Envelope
    size: int
    first_missing: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Why an event is held now: the numbers ``first`` to ``last`` are missing (None: the team's first contact);
    ``until`` is when its wait is over at the latest, server ms."""

    first: int | None
    last: int
    until: int | None


@dataclass(frozen=True, slots=True)
class End:
    """How a handler's job ended: ``outcome`` is done, discarded, conflated, dead or dropped; ``at`` server ms."""

    outcome: str
    at: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in its lane. ``ahead`` jobs come first; ``head`` is the first of them (or itself), with the attempts that
    failed. ``claimed``: a worker has the lane. ``due`` is server ms, None for never; ``blocked``: why and by whom."""

    lane: str
    job: Job
    ahead: int
    length: int
    head: Job
    head_event: str | None
    failed: Sequence[Attempt]
    claimed: bool
    due: int | None
    blocked: dict[str, Any] | None


class Tracer:
    """Every method may raise ``StoreUnavailable``."""

    def __init__(self, client: redis.Redis, partitions: Sequence[PartitionKeys]) -> None:
        self._client = client
        self._partitions = partitions

    def indexed(self, event_id: str) -> list[Located]:
        """The event by the index: held, or released and still in the archive. More than one when teams share an id."""
        mark = index_mark(event_id)
        with unavailable_as_error():
            pipe = self._client.pipeline(transaction=False)
            for keys in self._partitions:
                pipe.hget(keys.ids, mark)
            answers = pipe.execute()
        found = []
        for keys, answer in zip(self._partitions, answers, strict=True):
            if answer is not None:
                entry, _, first = answer.decode().partition(" ")
                located = self.at(keys, entry, first or None)
                if located is not None and located.event.id == event_id:
                    found.append(located)
        return found

    def at(self, keys: PartitionKeys, entry: str, first_missing: str | None = None) -> Located | None:
        """The event of an inbox entry, None where that is gone or can't be read."""
        with unavailable_as_error():
            answer: Any = self._client.xrange(keys.inbox, entry, entry)
        return _located(keys, answer[0], first_missing) if answer else None

    def searched(self, event_id: str) -> tuple[list[Located], bool]:
        """The event by looking into the inboxes, newest first; and whether all of them was looked at."""
        found, whole = [], True
        for keys in self._partitions:
            entries = _Newest(self._client, keys.inbox, event_id)
            for entry, fields in entries:
                located = _located(keys, (entry, fields), None)
                if located is not None and located.event.id == event_id:
                    found.append(located)
            whole = whole and entries.whole
        return found, whole

    def quarantined(self, event_id: str) -> tuple[list[Quarantined], bool]:
        """Deliveries of the event that are in quarantine, newest first; and whether all of it was looked at."""
        found, whole = [], True
        for keys in self._partitions:
            entries = _Newest(self._client, keys.quarantine, event_id)
            for entry, fields in entries:
                item = quarantined(keys.partition, entry.decode(), as_mapping(fields))
                if item.event_id in {None, event_id}:  # None: it can't be read, but the id's text is in it
                    found.append(item)
            whole = whole and entries.whole
        return found, whole

    def duplicates(self, keys: PartitionKeys, event_id: str) -> list[int]:
        """When the latest duplicates of the event arrived, server ms; as far back as the partition remembers."""
        mark = index_mark(event_id)
        with unavailable_as_error():
            dropped: Any = self._client.lrange(keys.again, 0, -1)
        pairs = (text.decode().split(" ") for text in dropped)
        return [arrival_ms(entry) for name, entry in pairs if name == mark]

    def unread(self, located: Located) -> bool:
        with unavailable_as_error():
            cursor: Any = self._client.hget(located.keys.state, "cursor")
        return _place(located.entry) > _place((cursor or b"0-0").decode())

    def hold(self, located: Located) -> Hold | None:
        """Why it is held, None if it is not."""
        keys, event = located.keys, located.event
        with unavailable_as_error():
            pipe = self._client.pipeline(transaction=True)
            pipe.zrangebyscore(keys.held(event.team), event.seq, event.seq)
            pipe.zrangebyscore(keys.held(event.team), "-inf", f"({event.seq}", withscores=True)
            pipe.get(keys.team(event.team))
            pipe.zscore(keys.gaps, event.team)
            same, below, team, until = pipe.execute()
        if not any(f'"{located.entry}"'.encode() in facts for facts in same):
            return None
        watermark = decode_team(team).watermark
        # The nearest missing number is right below the run of held events that it is part of.
        last = event.seq - 1
        for _, seq in reversed(below):
            if int(seq) != last:
                break
            last -= 1
        return Hold(None if watermark is None else watermark + 1, last, None if until is None else int(until))

    def record(self, located: Located) -> Record | None:
        """The event's record in the archive. Records are in the order of release, which is never before arrival."""
        keys, low = located.keys, 0
        arrived, wanted = arrival_ms(located.entry), f" {located.entry} ".encode()
        with unavailable_as_error():
            high: Any = self._client.llen(keys.archive)
            while low < high:
                middle = (low + high) // 2
                text: Any = self._client.lindex(keys.archive, middle)
                if text is not None and int(text.split(b" ", 3)[2]) < arrived:
                    low = middle + 1
                else:
                    high = middle
            low = max(0, low - PAGE)  # records may have left meanwhile
            for at in range(low, low + MOST, PAGE):
                page: Any = self._client.lrange(keys.archive, at, at + PAGE - 1)
                for text in page:
                    if wanted in text:
                        return decode(text)
                if len(page) < PAGE:
                    return None
        return None

    def end(self, located: Located, handler: str) -> End | None:
        with unavailable_as_error():
            text: Any = self._client.hget(located.keys.ends, f"{located.entry} {handler}")
        if text is None:
            return None
        outcome, at, attempts = text.decode().split(" ")
        return End(outcome, int(at), int(attempts))

    def waiting(self, located: Located, handler: str) -> Waiting | None:
        """The event's job in whichever lane of the handler it may be in, None if it is in none."""
        event = located.event
        lanes = {lane_of(order, escaped(event.team), event.prospect, located.entry) for order in ORDERS}
        for lane in sorted(lanes):
            found = self._in_lane(located, handler, lane)
            if found is not None:
                return found
        return None

    def _in_lane(self, located: Located, handler: str, lane: str) -> Waiting | None:
        keys = located.keys
        key, wanted = keys.lane(handler, lane), f"{located.entry} ".encode()
        with unavailable_as_error():
            for at in range(0, MOST, PAGE):
                page: Any = self._client.lrange(key, at, at + PAGE - 1)
                ahead = next((at + i for i, text in enumerate(page) if text.startswith(wanted)), None)
                if ahead is not None:
                    break
                if len(page) < PAGE:
                    return None
            else:
                return None
            pipe = self._client.pipeline(transaction=True)
            pipe.llen(key)
            pipe.lrange(key, 0, 0)
            pipe.hget(keys.claims(handler), lane)
            pipe.hget(keys.trouble(handler), lane)
            pipe.zscore(keys.ready(handler), lane)
            pipe.hget(keys.blocked(handler), lane)
            pipe.execute_command("TIME")
            length, first, claim, trouble, due, blocked, (seconds, micros) = pipe.execute()
        if not first:
            return None  # it went while we looked
        head = decode_job(first[0])
        now = int(seconds) * 1000 + int(micros) // 1000
        owned = claim is not None and not claim.startswith(b"0 ") and due is not None and now < due < float("inf")
        at_head = self.at(keys, head.entry)
        return Waiting(
            lane=lane,
            job=decode_job(page[ahead % PAGE]),
            ahead=ahead,
            length=length,
            head=head,
            head_event=None if at_head is None else at_head.event.id,
            failed=_decode_attempts(trouble) if trouble else (),
            claimed=owned,
            due=int(due) if due is not None and due < float("inf") else None,
            blocked=msgspec.json.decode(blocked) if blocked else None,
        )

    def dead(self, located: Located, handler: str, at: int | None) -> DeadLetter | None:
        """The event's dead letter; ``at`` is when it was given up, if that is known (server ms)."""
        keys = located.keys
        low, high = ("-", "+") if at is None else (str(at - 1), str(at + 1))
        wanted = f"{located.entry} ".encode()
        with unavailable_as_error():
            for _ in range(MOST // PAGE):
                page: Any = self._client.xrange(keys.dead, low, high, PAGE)
                for entry, flat in page:
                    fields = as_mapping(flat)
                    if fields[b"handler"] == handler.encode() and fields[b"job"].startswith(wanted):
                        return dead_letter(keys.partition, entry.decode(), fields)
                if len(page) < PAGE:
                    return None
                low = f"({page[-1][0].decode()}"
        return None


class _Newest:
    """The entries of a stream that may be of an event, newest first; ``whole`` tells at the end if all were looked at.

    Only those that hold the id's text are given: a look at the bytes is a hundred times faster than reading JSON.
    """

    def __init__(self, client: redis.Redis, stream: str, event_id: str) -> None:
        self._client = client
        self._stream = stream
        self._text = msgspec.json.encode(event_id)[1:-1]
        self.whole = True

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        high, count = "+", 8  # a short page at first: bodies may be a megabyte each
        looked = 0
        while True:
            with unavailable_as_error():
                page: Any = self._client.xrevrange(self._stream, high, "-", count)
            for entry, fields in page:
                if any(self._text in value for value in as_mapping(fields).values()):
                    yield entry, fields
            looked += len(page)
            if len(page) < count:
                return
            if looked >= MOST:
                self.whole = False
                return
            size = sum(len(value) for _, fields in page for value in as_mapping(fields).values())
            high, count = (
                f"({page[-1][0].decode()}",
                max(1, min(PAGE, count * 4, 4 * 1024 * 1024 * count // (size + 1))),
            )


def _located(keys: PartitionKeys, item: Any, first_missing: str | None) -> Located | None:
    entry, flat = item
    fields = as_mapping(flat)
    body, team = fields.get(b"b", b""), fields.get(b"t")
    try:
        event = read(body, None if team is None else team.decode(errors="replace"))
    except Unreadable:
        return None
    return Located(keys, entry.decode(), event, len(body), first_missing)


def _place(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)
