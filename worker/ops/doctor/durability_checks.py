"""Does each state server keep what it has confirmed?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from worker.ops.doctor.facts import Facts, Node
from worker.ops.doctor.findings import Finding, Level
from worker.store.durability import REMEDY, SETTING, lack_of

FILE: Final = "append-only file"
WAITAOF_SINCE: Final = (7, 2)


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
        if node.number("aof_enabled"):
            yield Finding(Level.OK, FILE, "appendonly is yes", where=node.address)
            continue
        yield Finding(
            Level.UNSAFE,
            FILE,
            "appendonly is no",
            "a restart loses what was answered 202, and the provider does not send it again",
            "appendonly yes",
            node.address,
        )


def flushing(facts: Facts) -> Iterable[Finding]:
    """What a machine that loses power loses."""
    for node in (node for node in facts.asked if node.number("aof_enabled")):
        sync, during = node.config.get("appendfsync"), node.config.get("no-appendfsync-on-rewrite")
        if sync == "no":
            why = "a machine that loses power loses half a minute of what was answered 202"
            remedy = "appendfsync everysec, or always"
            yield Finding(Level.UNSAFE, FILE, "appendfsync is no", why, remedy, node.address)
        elif during == "yes":
            what, why = (
                "no-appendfsync-on-rewrite is yes",
                "while the file is rewritten, the disk is not asked to keep it",
            )
            yield Finding(Level.WARN, FILE, what, why, "no-appendfsync-on-rewrite no", node.address)
        elif sync is not None:
            loses = "nothing" if sync == "always" else "about a second"
            what = f"appendfsync is {sync}: a machine that loses power loses {loses}"
            yield Finding(Level.OK, FILE, what, where=node.address)


def accepting(facts: Facts) -> Iterable[Finding]:
    """A server that could not write lately."""
    for node in facts.asked:
        found = [name for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if _failed(node, name)]
        stops = node.config.get("stop-writes-on-bgsave-error", "yes") == "yes"
        if _failed(node, "rdb_last_bgsave_status"):
            found.append("rdb_last_bgsave_status")
        for name in found:
            refuses = name == "aof_last_write_status" or (name.startswith("rdb") and stops)
            yield Finding(
                Level.UNSAFE if refuses else Level.WARN,
                "disk",
                f"{name} is {node.info[name]}",
                "it refuses writes, so deliveries are answered 503"
                if refuses
                else "its file grows until the disk is full",
                "look at the server's log, its disk's free space and its rights to dir",
                node.address,
            )
        if not found:
            yield Finding(Level.OK, "disk", "its last writes went well", where=node.address)


def repairing(facts: Facts) -> Iterable[Finding]:
    for node in facts.asked:
        if node.config.get("aof-load-truncated") == "no":
            what, why = "aof-load-truncated is no", "after a power cut it does not start: half a command is at the end"
            yield Finding(Level.WARN, FILE, what, why, "aof-load-truncated yes", node.address)


def fsync(facts: Facts) -> Iterable[Finding]:
    """Whether the servers can do what ``HANDOFF_DURABILITY`` asks for."""
    if facts.settings.durability != "fsync":
        return
    for node in facts.asked:
        if node.version < WAITAOF_SINCE:
            problem, remedy = f"{node.named} has no WAITAOF", "use Redis 7.2+ or Valkey 7.2+"
        elif not node.number("aof_enabled"):
            problem, remedy = "this server has no append-only file", "set appendonly yes"
        elif "appendfsync" not in node.config:
            problem, remedy = "this server does not say what its appendfsync is", "allow our user +config|get"
        elif (lack := lack_of(node.config)) is not None:
            problem, remedy = lack
        else:
            what = f"{SETTING} is fsync, and the server can"
            yield Finding(Level.OK, "durability", what, where=node.address)
            continue
        what, why = f"{SETTING} is fsync, but {problem}", "no ingress starts, or it answers 503"
        yield Finding(Level.UNSAFE, "durability", what, why, f"{remedy}, {REMEDY}", node.address)


def _failed(node: Node, name: str) -> bool:
    return str(node.info.get(name, "ok")) != "ok"
