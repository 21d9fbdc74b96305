"""What Handoff keeps in Redis, as differences of ``used_memory`` around each kind of key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from tests.bench.arena import Arena, arena_for
from tests.bench.contenders.handoff import load_inboxes, partitions_of, settings_of
from tests.bench.sections import Section
from tests.bench.workload import Workload
from tests.runtime_kit import NotedBells, spec_of
from worker.core.handlers import Registry
from worker.runtime.keeper import Keeper
from worker.runtime.process import Process
from worker.runtime.sequencer import Sequencer
from worker.settings import DEFAULT_PARTITIONS
from worker.store.client import connect
from worker.store.lanes import LaneStore, Settlement
from worker.store.scripts import Scripts

MANY_TEAMS = 5000


def memory(workload: Workload) -> Section:
    """Bytes of a waiting event with one handler and with three, and of what stays when all is done."""
    rows: list[tuple[str, float, str]] = [("body", workload.body_size, "bytes")]
    for handlers in (1, 3):
        waiting = _waiting(workload, handlers)
        rows.append((f"event waiting for {handlers} handler(s)", waiting, "bytes"))
        rows.append((f"the same, to its body, {handlers} handler(s)", waiting / workload.body_size, "x"))
    spread = Workload.w1(workload.seed, workload.events, teams=min(MANY_TEAMS, workload.events))
    for kind, size in _kept(spread):
        rows.append((kind, size, "bytes"))
    return Section("Memory in Redis", rows, "differences of used_memory; nothing else is on the server")


def _waiting(workload: Workload, handlers: int) -> float:
    """Bytes an event takes while it waits in lanes, over what is left when it is done."""
    with arena_for(workload) as arena:
        registry = _registry(handlers)
        with connect(settings_of(arena)) as client:
            _sequence(arena, client, registry)
            waiting = _used(client)
            _run(arena, client, registry)
        return (waiting - _used(arena.client)) / workload.events


def _kept(workload: Workload) -> Iterator[tuple[str, float]]:
    """Bytes of each thing that is remembered, each kind deleted in turn to see what it had taken."""
    with arena_for(workload) as arena:
        arena.client.config_set("lazyfree-lazy-user-del", "no")  # or memory is given back later than it is looked at
        with connect(settings_of(arena)) as client:
            _sequence(arena, client, {})
        kinds = (("remembered id", "seen"), ("known owner", "owner"), ("idle team", "team"))
        for what, kind in kinds:
            found = list(arena.client.scan_iter(f"*:{kind}:*", count=1000))
            count = sum(arena.client.scard(key) for key in found) if kind == "seen" else len(found)
            before = _used(arena.client)
            for start in range(0, len(found), 1000):
                arena.client.delete(*found[start : start + 1000])
            yield what, (before - _used(arena.client)) / count


def _registry(handlers: int) -> Registry:
    def nothing(event: Any, ctx: Any) -> None:
        return

    return {name: spec_of(nothing, name=name, on="*") for name in (f"crm{number}" for number in range(handlers))}


def _sequence(arena: Arena, client: redis.Redis, registry: Registry) -> None:
    """Put all of the work in order, in this process, without waiting for anything."""
    # Without an archive: it would keep the bodies of jobs that have ended, and they are what is measured.
    settings = settings_of(arena).model_copy(update={"gap_wait": 0.0, "archive_events": 0})
    load_inboxes(arena, settings, DEFAULT_PARTITIONS)
    bells: Any = NotedBells()
    process = Process(settings, registry, client, Scripts(client), bells, Keeper())
    for keys in partitions_of(arena):
        while Sequencer(process, keys.partition).run():
            pass


def _run(arena: Arena, client: redis.Redis, registry: Registry) -> None:
    """End every job well."""
    for keys in partitions_of(arena):
        for handler in registry:
            _empty(LaneStore(client, Scripts(client), keys, handler))


def _empty(lanes: LaneStore) -> None:
    while (claim := lanes.claim(lanes=64, jobs=1024, per_lane=1024)).lanes:
        lanes.settle([Settlement(claim.token, one.lane, done=len(one.jobs)) for one in claim.lanes])


def _used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])
