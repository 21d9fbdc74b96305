"""Asks the server, at the end of a run, what became of everything; and reads what the processes have recorded."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from tests.chaos import recorder
from tests.chaos.cluster import Cluster
from tests.chaos.history import Books, Call, Committed, Fault, Taken, Terms
from worker.errors import StoreError
from worker.ops import auditing
from worker.ops.installed import Installed
from worker.settings import Settings
from worker.store import ledger
from worker.store.client import connect
from worker.store.dead import DeadFilter, list_dead
from worker.store.keys import PartitionKeys
from worker.store.pages import ALL, Window
from worker.store.scripts import Scripts


def take(cluster: Cluster, terms: Sequence[Terms], partitions: Sequence[int] | None = None) -> Books:
    """The books of all partitions, or of those that are named, added up. Raises ``StoreUnavailable``."""
    settings = cluster.settings
    with connect(settings) as client:
        scripts = Scripts(client)
        numbers = range(settings.partitions or 0) if partitions is None else partitions
        keys = [PartitionKeys(settings.prefix, number) for number in numbers]
        counts: Counter[str] = Counter()
        unfinished = accepted = 0
        for each in keys:
            taken = ledger.take(scripts, each, [term.name for term in terms])
            counts.update(taken.ledger)
            unfinished += taken.unread + taken.held + sum(book.waiting for book in taken.handlers.values())
            accepted += taken.accepted
        letters = list_dead(client, keys, DeadFilter(), Window(), ALL)
        bodies, too_old = _quarantine(client, keys)
        return Books(
            accepted=accepted,
            unfinished=unfinished,
            counts=counts,
            dead=[(letter.handler, letter.event_id or "") for letter in letters.records],
            quarantined=bodies,
            too_old=too_old,
            audit=_audit(client, settings, keys, scripts),
        )


def unfinished(cluster: Cluster, terms: Sequence[Terms]) -> int:
    """How much still waits in any form. Raises ``StoreUnavailable``."""
    settings = cluster.settings
    with connect(settings) as client:
        scripts = Scripts(client)
        total = 0
        for number in range(settings.partitions or 0):
            taken = ledger.take(scripts, PartitionKeys(settings.prefix, number), [term.name for term in terms])
            total += taken.unread + taken.held + sum(book.waiting for book in taken.handlers.values())
        return total


def wait_until_done(cluster: Cluster, terms: Sequence[Terms], patience: float) -> None:
    """Until nothing waits in any form any more, or for so many seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with suppress(StoreError):
            if not unfinished(cluster, terms):
                return
        time.sleep(0.1)


def _quarantine(client: redis.Redis, partitions: list[PartitionKeys]) -> tuple[list[bytes], set[str]]:
    """The bodies that are kept there, and the ids of the events that were too old to be told from duplicates."""
    bodies: list[bytes] = []
    too_old: set[str] = set()
    for keys in partitions:
        entries: Any = client.xrange(keys.quarantine)
        for _, words in entries:
            fields = dict(zip(words[::2], words[1::2], strict=True)) if isinstance(words, list) else words
            if fields[b"reason"] == b"too_old":
                too_old.add(json.loads(fields[b"b"])["id"])
            else:
                bodies.append(fields[b"b"])
    return bodies, too_old


def _audit(client: redis.Redis, settings: Settings, partitions: list[PartitionKeys], scripts: Scripts) -> list[str]:
    """What ``handoff audit --deep`` finds wrong."""
    found = Installed(settings, client, scripts, tuple(partitions))
    checks = auditing.audit(found, deep=True)
    return [f"partition {c.partition}, {c.name}: drift {c.drift}, {c.numbers}" for c in checks if c.drift]


def records(folder: Path) -> tuple[list[Call], list[Taken], list[Committed], list[Fault]]:
    """The calls, leases and commits that the workers recorded, and the processes that a handler ended."""
    calls: dict[tuple[int, int, float], dict[str, Any]] = {}
    latest: dict[tuple[int, int], tuple[int, int, float]] = {}
    taken: list[Taken] = []
    committed: list[Committed] = []
    exits: list[Fault] = []
    for pid, (kind, *words) in recorder.read(folder):
        if kind == "start":
            number, start, handler, key, team, seq, attempt, late, stale, prospect, assignee, absorbed = words
            place = latest[pid, number] = (pid, number, start)
            calls[place] = {
                "handler": handler,
                "key": key,
                "team": team,
                "seq": seq,
                "start": start,
                "attempt": attempt,
                "late": late,
                "stale": stale,
                "prospect": prospect,
                "assignee": assignee,
                "pid": pid,
                "absorbed": tuple(absorbed),
                "end": None,
                "outcome": "cut",
            }
        elif kind == "end":
            number, end, outcome = words
            calls[latest[pid, number]].update(end=end, outcome=outcome)
        elif kind == "taken":
            asked, at, token, names = words
            taken += (Taken(name, token, asked, at, pid) for name in names)
        elif kind == "committed":
            sent, lanes = words
            committed += (Committed(name, token, sent, accepted, pid) for name, token, accepted in lanes)
        elif kind == "exit":
            exits.append(Fault("exit of a handler's", words[0], words[0], f"process {pid}", (pid,)))
    return [Call(**call) for call in calls.values()], taken, committed, exits
