"""Puts dead letters back to work, or forgets them. Each letter is a step of its own, so that a run that was killed half
way is simply run again.

A letter that is retried goes to the end of its lane and is marked late. If a newer change of its prospect has gone out
with another owner since, a call would undo that: such a letter is *stale* and stays where it is, unless its handler
wants stale changes or a person insists. That is decided from the prospect's owner record (core/changes.py), and
revive.lua writes only if the record is still the one that was looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import redis

from worker.core import jobs
from worker.core.changes import stale_by_now
from worker.core.envelope import Unreadable, read
from worker.store.bodies import fetch
from worker.store.client import unavailable_as_error
from worker.store.dead import Letter
from worker.store.keys import PartitionKeys
from worker.store.records import decode_owner
from worker.store.scripts import Scripts, Word

MOST: Final = 64  # letters in one script
MOST_BYTES: Final = 4 * 1024 * 1024  # of their bodies, which are read here
ANY: Final = b"*"  # the owner record does not matter (revive.lua)


class Outcome(StrEnum):
    """What became of a letter. The first three are the words of revive.lua."""

    REVIVED = "revived"
    GONE = "gone"
    CHANGED = "changed"
    STALE = "stale"
    LOST = "lost"


def chunks(letters: Iterable[Letter], most: int = MOST) -> Iterator[list[Letter]]:
    """Neighbours of one partition, up to ``most`` and so many bytes of bodies together."""
    for _, group in groupby(letters, key=attrgetter("partition")):
        some: list[Letter] = []
        size = 0
        for letter in group:
            if some and (len(some) >= min(most, MOST) or size + letter.size > MOST_BYTES):
                yield some
                some, size = [], 0
            some.append(letter)
            size += letter.size
        yield some


@dataclass(frozen=True, slots=True)
class _Judged:
    """A letter, what is to become of it (``REVIVED``: try), its job's new text, and the owner record that says so."""

    letter: Letter
    outcome: Outcome
    job: bytes = b""
    owner_key: str = ""
    owner: bytes = ANY


@dataclass(frozen=True, slots=True)
class Revival:
    """``force`` revives stale letters too; so do the handlers in ``take_stale``, which asked for stale changes. Those
    in ``take_events`` are called with events, of which none overtakes another.

    Every method may raise ``StoreUnavailable``.
    """

    client: redis.Redis
    scripts: Scripts
    partitions: Mapping[int, PartitionKeys]
    force: bool = False
    take_stale: AbstractSet[str] = field(default_factory=frozenset)
    take_events: AbstractSet[str] = field(default_factory=frozenset)

    def judge(self, letters: Sequence[Letter]) -> list[Outcome]:
        """What would become of letters of one partition: ``REVIVED``, ``STALE`` or ``LOST``."""
        return [judged.outcome for judged in self._judge(letters, self._bodies(letters))]

    def revive(self, letters: Sequence[Letter]) -> list[Outcome]:
        """Letters of one partition back into their lanes, in their order: what became of each, never ``CHANGED``."""
        bodies = self._bodies(letters)
        found: dict[str, Outcome] = {}
        left = list(letters)
        while left:  # each time around, somebody else's event went out meanwhile
            judged = self._judge(left, bodies)
            going = [item for item in judged if item.outcome is Outcome.REVIVED]
            found |= {item.letter.entry: item.outcome for item in judged}
            if going:
                answers = self._write(self.partitions[letters[0].partition], going)
                found |= {item.letter.entry: outcome for item, outcome in zip(going, answers, strict=True)}
            left = [letter for letter in left if found[letter.entry] is Outcome.CHANGED]
        return [found[letter.entry] for letter in letters]

    def _bodies(self, letters: Sequence[Letter]) -> dict[str, bytes]:
        keys = self.partitions[letters[0].partition]
        return fetch(self.client, keys.inbox, [letter.inbox_entry for letter in letters])

    def _judge(self, letters: Sequence[Letter], bodies: Mapping[str, bytes]) -> list[_Judged]:
        keys = self.partitions[letters[0].partition]
        events = []
        for letter in letters:
            event = None
            if letter.handler not in self.take_events and jobs.decode(letter.job).change is not None:
                with suppress(Unreadable):
                    event = read(bodies.get(letter.inbox_entry, b""), letter.team)
            events.append(event if event is not None and event.prospect is not None else None)
        names = {event: keys.owner(event.team, event.prospect or "") for event in events if event is not None}
        owners: dict[str, bytes] = {}
        if names:
            with unavailable_as_error():
                answer: Any = self.client.mget(list(names.values()))
            owners = {name: text or b"" for name, text in zip(names.values(), answer, strict=True)}
        judged = []
        for letter, event in zip(letters, events, strict=True):
            owner = ANY if event is None else owners[names[event]]
            change = jobs.decode(letter.job).change
            known = decode_owner(owner) if owner not in {b"", ANY} else None
            stale = event is not None and change is not None and stale_by_now(change, known, event)
            insist = self.force or letter.handler in self.take_stale
            if not bodies.get(letter.inbox_entry):
                judged.append(_Judged(letter, Outcome.LOST))
            elif stale and not insist:
                judged.append(_Judged(letter, Outcome.STALE))
            else:
                text = jobs.revived(letter.job, stale=stale)
                checked = event is not None and not insist
                name = names[event] if event is not None else keys.ledger
                judged.append(_Judged(letter, Outcome.REVIVED, text, name, owner if checked else ANY))
        return judged

    def _write(self, keys: PartitionKeys, going: Sequence[_Judged]) -> list[Outcome]:
        names = [keys.dead, keys.refs, keys.inbox, keys.ledger, keys.ends]
        words: list[Word] = []
        for item in going:
            letter = item.letter
            names += [keys.ready(letter.handler), keys.lane(letter.handler, letter.lane), keys.blocked(letter.handler)]
            names.append(item.owner_key)
            words += [letter.entry, letter.handler, letter.lane, item.job, item.owner]
        return [Outcome(answer.decode()) for answer in self.scripts.run("revive", names, words)]


def drop(scripts: Scripts, keys: PartitionKeys, letters: Sequence[Letter]) -> list[bool]:
    """Forget letters of one partition: whether each was still there. Raises ``StoreUnavailable``."""
    words: list[Word] = []
    for letter in letters:
        words += [letter.entry, letter.handler, letter.inbox_entry, letter.size]
    touched = [keys.dead, keys.refs, keys.inbox, keys.ledger, keys.ends]
    return [bool(found) for found in scripts.run("drop", touched, words)]
