"""Of each state server: can it be asked, is it the primary, is it new enough?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding, Level

OLDEST: Final = {"Redis": (7, 0), "Valkey": (7, 2)}


def reachable(facts: Facts) -> Iterable[Finding]:
    for node in facts.nodes:
        if node.error:
            why, remedy = "nothing can be stored or worked on", "check HANDOFF_REDIS_URL and the server"
            yield Finding(Level.UNKNOWN, "server", node.error, why, remedy, node.address)
        else:
            version = ".".join(map(str, node.version))
            yield Finding(Level.OK, "server", f"{node.kind} {version} answers", where=node.address)


def version(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        oldest = OLDEST[node.kind]
        if node.version >= oldest:
            yield Finding(Level.OK, "version", "is new enough", where=node.address)
            continue
        needed = ".".join(map(str, oldest))
        yield Finding(
            Level.UNSAFE,
            "version",
            f"{node.kind} {'.'.join(map(str, node.version)) or 'of an unknown version'}",
            f"Handoff's scripts are tested from {node.kind} {needed} on, and may fail on older ones",
            "upgrade to Redis 7.0+ or Valkey 7.2+",
            node.address,
        )


def primary(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        if node.info.get("role") == "master":
            yield Finding(Level.OK, "role", "is a primary", where=node.address)
            continue
        yield Finding(
            Level.UNSAFE,
            "role",
            "is a replica",
            "it refuses writes, or forgets them when it next copies its primary",
            "name the primary in HANDOFF_REDIS_URL",
            node.address,
        )
