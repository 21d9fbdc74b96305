"""Lanes as a table and as JSON: which ones, how they are, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from worker.errors import ConfigurationError
from worker.ops import tables
from worker.ops.installed import Installed
from worker.store.blocking import Lane, State, Why, blocked_names, look_at, names, troubled_names
from worker.store.installation import known_handlers
from worker.store.keys import PartitionKeys, partition_of
from worker.store.ledger import handlers_in, read_ledgers

LONGEST: Final = 64  # characters of a lane in the table
ORDER: Final = {state: place for place, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class LaneFilter:
    """Which lanes; None is any. ``only``: ``blocked``, ``paused`` or ``troubled`` (failed before, or blocked)."""

    handler: str | None = None
    team: str | None = None
    only: str | None = None


@dataclass(frozen=True, slots=True)
class Lanes:
    """``more``: there are others. Where there are very many, these are some of those due first, and of the troubled."""

    lanes: Sequence[Lane]
    more: bool


def handlers(found: Installed, wanted: str | None) -> list[str]:
    """The handlers to look at. Raises ``ConfigurationError`` for one that nobody ever heard of."""
    known = set(known_handlers(found.client, found.settings))
    if wanted is not None and wanted in known:
        return [wanted]
    known |= handlers_in(read_ledgers(found.client, found.partitions))
    if wanted is None:
        return sorted(known)
    if wanted not in known:
        there = ", ".join(sorted(known)) or "none yet"
        raise ConfigurationError("HANDLER", f"no worker announced a handler {wanted!r}", f"there is: {there}")
    return [wanted]


def find(found: Installed, wanted: LaneFilter, limit: int) -> Lanes:
    """Up to ``limit`` lanes, those that need a person first. Raises ``StoreUnavailable`` and as ``handlers`` does."""
    seen: list[Lane] = []
    for handler in handlers(found, wanted.handler):
        for keys in partitions(found, wanted.team):
            some = list(dict.fromkeys(_names(found, keys, handler, wanted, limit + 1)))
            looked = look_at(found.scripts, keys, handler, some)
            seen += [lane for lane in looked if lane.waiting or lane.blocked or lane.claimed]
    if wanted.only in {"blocked", "paused"}:
        state = State.EXHAUSTED if wanted.only == "blocked" else State.PAUSED
        seen = [lane for lane in seen if lane.state is state]
    seen.sort(key=lambda lane: (ORDER[lane.state], lane.oldest or lane.now, lane.handler, lane.lane))
    return Lanes(seen[:limit], len(seen) > limit)


def partitions(found: Installed, team: str | None) -> Sequence[PartitionKeys]:
    """Those in which a team's lanes are."""
    every = found.partitions
    return every if team is None or not every else [every[partition_of(team, len(every))]]


def _names(found: Installed, keys: PartitionKeys, handler: str, wanted: LaneFilter, limit: int) -> Iterator[str]:
    why = {"blocked": Why.EXHAUSTED, "paused": Why.PAUSED}.get(wanted.only or "")
    yield from islice(blocked_names(found.client, keys, handler, why, team=wanted.team), limit)
    if why is None:
        if wanted.team is None:
            yield from islice(troubled_names(found.client, keys, handler), limit)
        if wanted.only is None or wanted.team is not None:
            every = names(found.client, keys, handler, wanted.team)
            yield from islice(_of(found, keys, handler, every, wanted), limit)


def _of(found: Installed, keys: PartitionKeys, handler: str, every: Iterable[str], wanted: LaneFilter) -> Iterator[str]:
    """Those of ``every`` that failed before, where only such are wanted."""
    if wanted.only is None:
        yield from every
    else:
        yield from (lane.lane for lane in look_at(found.scripts, keys, handler, every) if lane.error is not None)


def document(shown: Lanes) -> dict[str, Any]:
    def one(lane: Lane) -> dict[str, Any]:
        blocked = lane.blocked
        return {
            "partition": lane.partition,
            "handler": lane.handler,
            "lane": lane.lane,
            "team": lane.team,
            "state": lane.state.value,
            "waiting": lane.waiting,
            "oldest": lane.oldest,
            "due": lane.due,
            "attempts": lane.attempts,
            "error": lane.error or (blocked.error if blocked is not None and blocked.error else None),
            "blocked": None if blocked is None else {"why": blocked.why.value, "at": blocked.at, "by": blocked.by},
        }

    return {"more": shown.more, "lanes": [one(lane) for lane in shown.lanes]}


def view(shown: Lanes) -> RenderableType:
    if not shown.lanes:
        return Text("No lane matches.")
    table = tables.table(
        "handler", "lane", "jobs", "oldest", "state", "", "tries", "error", numbers=["jobs", "oldest", "tries"]
    )
    for lane in shown.lanes:
        name = lane.lane if len(lane.lane) <= LONGEST else f"{lane.lane[: LONGEST - 1]}…"
        oldest = None if lane.oldest is None else tables.age(max(0, lane.now - lane.oldest))
        error = lane.error or (lane.blocked.error if lane.blocked is not None else None)
        row = [lane.handler, name, lane.waiting, oldest, lane.state.value, _about(lane), lane.attempts or None]
        table.add_row(*map(tables.cell, [*row, error or None]))
    more = "; there are more: raise --limit, or name a --handler or --team" if shown.more else ""
    return Group(table, Text(""), Text(f"{tables.plural(len(shown.lanes), 'lane')}{more}", style="dim"))


def _about(lane: Lane) -> str | None:
    """Since when, until when, by whom."""
    words = []
    if lane.state is State.BACKING_OFF and lane.due is not None:
        words.append(f"for {tables.age(lane.due - lane.now)}")
    if lane.blocked is not None:
        since = f"{tables.age(max(0, lane.now - lane.blocked.at))} ago"
        by = f" by {lane.blocked.by}" if lane.blocked.why is Why.PAUSED else ""
        words.append(f"{'paused ' if lane.state is State.RUNNING else ''}{since}{by}")
    return ", ".join(words) or None
