"""What Handoff keeps in Redis, as differences of ``used_memory`` around each kind of key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import redis

from tests.bench.arena import Arena, arena_for
from tests.bench.contenders.handoff import load_inboxes, partitions_of, settings_of
from tests.bench.sections import Section
from tests.bench.workload import Workload
from tests.runtime_kit import NotedBells, spec_of
from worker.core.handlers import Registry
from worker.ops.embedded import NODE_BYTES
from worker.runtime.keeper import Keeper
from worker.runtime.process import Process
from worker.runtime.sequencer import Sequencer
from worker.settings import DEFAULT_PARTITIONS
from worker.store.client import connect
from worker.store.lanes import LaneStore, Settlement
from worker.store.scripts import Scripts

MANY_TEAMS: Final = 5000
USUAL_NODE_BYTES: Final = 4096  # a server's stream-node-max-bytes where nobody said another


def memory(workload: Workload) -> Section:
    """Bytes of a waiting event with one handler and with three, and of what stays when all is done."""
    rows: list[tuple[str, float, str]] = [("body", workload.body_size, "bytes")]
    for handlers in (1, 3):
        size = waiting(workload, handlers)
        rows.append((f"event waiting for {handlers} handler(s)", size, "bytes"))
        rows.append((f"the same, to its body, {handlers} handler(s)", size / workload.body_size, "x"))
    size = waiting(workload, 3, node_bytes=USUAL_NODE_BYTES) / workload.body_size
    rows.append(("the same, 3 handlers, server with its own defaults", size, "x"))
    for kind, size in kept(workload):
        rows.append((kind, size, "bytes"))
    said = f"differences of used_memory; stream-node-max-bytes {NODE_BYTES}, as deploy/valkey.conf has it"
    return Section("Memory in Redis", rows, said)


def waiting(workload: Workload, handlers: int, *, node_bytes: int = NODE_BYTES) -> float:
    """Bytes an event takes while it waits in lanes, over what is left when it is done.

    The duplicates among the deliveries have been dropped by then; what the server still keeps of them is counted.
    """
    with arena_for(workload) as arena:
        arena.client.config_set("stream-node-max-bytes", node_bytes)
        registry = _registry(handlers)
        with connect(settings_of(arena)) as client:
            _sequence(arena, client, registry)
            used = _used(client)
            _run(arena, client, registry)
        return (used - _used(arena.client)) / workload.events


def kept(workload: Workload) -> Iterator[tuple[str, float]]:
    """Bytes of each thing that is remembered, each kind deleted in turn to see what it had taken."""
    spread = Workload.w1(workload.seed, workload.events, teams=min(MANY_TEAMS, workload.events))
    with arena_for(spread) as arena:
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
