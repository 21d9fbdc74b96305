"""Reads a stream of every partition as one, by time, a page at a time: only a page of bodies is ever in memory."""

from __future__ import annotations

import heapq
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar

import redis

from worker.store.client import unavailable_as_error

FIRST_PAGE: Final = 8
MOST_PAGE: Final = 500
ALL: Final = sys.maxsize - 1  # as a limit
ADDRESS: Final = re.compile(r"(\d{1,5}):(\d+-\d+)")
PAGE_BYTES: Final = 1024 * 1024
"""Pages grow from FIRST to MOST entries while their bodies stay below this."""

Fields = Mapping[bytes, bytes]


class Record(Protocol):
    """What an entry is read as. ``at`` is server ms, ``entry`` the entry's id."""

    @property
    def at(self) -> int: ...
    @property
    def partition(self) -> int: ...
    @property
    def entry(self) -> str: ...


R = TypeVar("R", bound=Record)

Parse = Callable[[int, str, Fields], R | None]
"""(partition, entry id, fields) -> a record without the body, or None for one that is not wanted."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which entries, and in what order. ``since`` and ``until`` are server ms, both included."""

    since: int | None = None
    until: int | None = None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """``more``: others match too. ``total`` is how many entries the streams have, matching or not."""

    records: Sequence[R]
    more: bool
    total: int


def merged(
    client: redis.Redis,
    streams: Mapping[int, str],
    window: Window,
    limit: int,
    parse: Parse[R],
    *,
    only: int | None = None,
) -> Page[R]:
    """Up to ``limit`` records of ``streams`` (partition -> key), by time; with ``only``, of that partition.

    Raises ``StoreUnavailable``.
    """
    with unavailable_as_error():
        pipe = client.pipeline(transaction=False)
        for key in streams.values():
            pipe.xlen(key)
        lengths: list[int] = pipe.execute()
        filled = [pair for pair, length in zip(streams.items(), lengths, strict=True) if length]
        each = [
            _records(client, partition, key, window, parse) for partition, key in filled if only in (None, partition)
        ]
        found = heapq.merge(*each, key=_place, reverse=window.newest_first)
        records = list(islice(found, limit + 1))
    return Page(records[:limit], len(records) > limit, sum(lengths))


def address(record: Record) -> str:
    """What a person names a record by: its partition and entry id."""
    return f"{record.partition}:{record.entry}"


def place_of(text: str) -> tuple[int, str]:
    """Partition and entry id of an ``address``. Raises ``ValueError``."""
    found = ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError("must be an id as the list shows it, for instance 3:1700000000000-0")
    return int(found[1]), found[2]


def milliseconds(entry: str) -> int:
    """When an entry was added, ms of the server's clock."""
    return int(entry.partition("-")[0])


def entry_place(entry: str) -> tuple[int, int]:
    """A stream's ids are ordered by their two numbers, not as text."""
    time, _, number = entry.partition("-")
    return int(time), int(number)


def _place(record: Record) -> tuple[int, int, int]:
    return record.at, record.partition, int(record.entry.partition("-")[2])


def entries_at(
    client: redis.Redis, streams: Mapping[int, str], places: Sequence[tuple[int, str]]
) -> Iterator[tuple[int, str, Fields | None]]:
    """The entries at ``places`` (partition, entry id), None for what is not there. Raises ``StoreUnavailable``."""
    for partition, entry in places:
        answer: Any = []
        if partition in streams:
            with unavailable_as_error():
                answer = client.xrange(streams[partition], entry, entry)
        yield partition, entry, as_mapping(answer[0][1]) if answer else None


def _records(client: redis.Redis, partition: int, key: str, window: Window, parse: Parse[R]) -> Iterator[R]:
    low = "-" if window.since is None else str(window.since)
    high = "+" if window.until is None else str(window.until)
    count = FIRST_PAGE
    while True:
        if window.newest_first:
            answer: Any = client.xrevrange(key, high, low, count)
        else:
            answer = client.xrange(key, low, high, count)
        page = [(entry.decode(), as_mapping(fields)) for entry, fields in answer]
        size = sum(len(value) for _, fields in page for value in fields.values())
        wanted = [parse(partition, entry, fields) for entry, fields in page]
        full, last = len(page) == count, page[-1][0] if page else ""
        del page, answer  # the bodies, while others read what was made of them
        yield from (record for record in wanted if record is not None)
        if not full:
            return
        if window.newest_first:
            high = f"({last}"
        else:
            low = f"({last}"
        count = max(1, min(count * 4, MOST_PAGE, PAGE_BYTES * count // (size + 1)))


def as_mapping(fields: Any) -> Fields:
    """An entry's fields however the client reads them: our own leave XRANGE's as a flat list (store/client.py)."""
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
