"""Does each state server keep what it has confirmed?"""

from __future__ import annotations

from collections.abc import Iterable

from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding, Level


def eviction(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        policy = str(node.info.get("maxmemory_policy") or node.config.get("maxmemory-policy") or "not known")
        if policy == "noeviction":
            yield Finding(Level.OK, "eviction", "maxmemory-policy is noeviction", where=node.address)
            continue
        yield Finding(
            Level.UNSAFE,
            "eviction",
            f"maxmemory-policy is {policy}",
            "a full server would drop waiting events, remembered ids or owners instead of refusing new ones",
            "maxmemory-policy noeviction",
            node.address,
        )


def append_only(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        if node.info.get("aof_enabled"):
            yield Finding(Level.OK, "append-only file", "appendonly is yes", where=node.address)
            continue
        yield Finding(
            Level.UNSAFE,
            "append-only file",
            "appendonly is no",
            "a restart loses what was answered 202, and the provider does not send it again",
            "appendonly yes",
            node.address,
        )
