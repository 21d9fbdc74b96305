"""Of each state server: can it be asked, is it the primary, is it new enough, has it room for connections?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding, Level

OLDEST: Final = {"Redis": (7, 0), "Valkey": (7, 2)}
CROWDED: Final = 0.8  # share of maxclients


def reachable(facts: Facts) -> Iterable[Finding]:
    for node in facts.nodes:
        if node.error:
            why, remedy = "nothing can be stored or worked on", "check HANDOFF_REDIS_URL and the server"
            yield Finding(Level.UNKNOWN, "server", node.error, why, remedy, node.address)
        else:
            yield Finding(Level.OK, "server", f"{node.named} answers", where=node.address)


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
            f"is too old: {node.named}",
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


def loaded(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        if node.number("loading") or node.number("async_loading"):
            why, remedy = "it refuses everything until it has", "look again in a while"
            yield Finding(Level.UNKNOWN, "server", "is reading its data from the disk", why, remedy, node.address)


def readable(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        for command in node.refused:
            right = "+" + command.lower().replace(" ", "|")
            yield Finding(
                Level.WARN,
                "rights",
                f"our user may not use {command}",
                "what it would say has not been looked at",
                f"allow it {right}, as deploy/users.acl does for handoff-monitor, or ask as another user",
                node.address,
            )


def connections(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        clients, most = node.number("connected_clients"), node.number("maxclients")
        if 0 < most * CROWDED <= clients:
            why = "the next worker or ingress is refused, and nothing says so but its log"
            what = f"{clients} of {most} connections are taken"
            yield Finding(Level.WARN, "connections", what, why, "raise maxclients", node.address)
        if int(node.config.get("timeout") or 0):
            what, why = f"timeout is {node.config['timeout']} s", "idle connections are cut, and made again, all night"
            yield Finding(Level.WARN, "connections", what, why, "timeout 0", node.address)
