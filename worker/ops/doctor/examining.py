"""Gathers the facts and runs every check over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import redis

from worker.address import Host, Kind
from worker.ops.doctor import (
    brokers,
    clock_checks,
    durability_checks,
    fleet_checks,
    installation,
    memory_checks,
    own,
    secret_checks,
    server_checks,
    settings_checks,
)
from worker.ops.doctor.asking import address_of, ask
from worker.ops.doctor.facts import Facts, Node
from worker.ops.doctor.findings import Finding
from worker.settings import Settings
from worker.store.client import connect, describe
from worker.store.cluster import servers

Check = Callable[[Facts], Iterable[Finding]]

CHECKS: Final[tuple[Check, ...]] = (
    settings_checks.usable,
    settings_checks.without_effect,
    secret_checks.webhook,
    secret_checks.teams,
    server_checks.reachable,
    server_checks.loaded,
    server_checks.readable,
    server_checks.version,
    server_checks.primary,
    server_checks.connections,
    durability_checks.eviction,
    durability_checks.append_only,
    durability_checks.flushing,
    durability_checks.accepting,
    durability_checks.repairing,
    durability_checks.fsync,
    memory_checks.room,
    memory_checks.machine,
    clock_checks.server,
    clock_checks.workers,
    fleet_checks.broker,
    fleet_checks.partitions,
    fleet_checks.workers,
    fleet_checks.handlers,
    fleet_checks.queues,
)
PATIENCE: Final = 5.0  # seconds for one command


def examine() -> list[Finding]:
    """Every finding, in the order of ``CHECKS``. Raises ``ConfigurationError`` where no setting can be read."""
    facts = gather()
    return [finding for check in CHECKS for finding in check(facts)]


def gather() -> Facts:
    """Ask everybody. Raises as ``examine``."""
    settings, wrong = own.read()
    defined, strays, broken = own.handlers(settings)
    unknown = {error.setting for error in wrong}
    wrong = [*wrong, *([broken] if broken is not None else [])]
    facts = Facts(settings, wrong=wrong, strays=strays, defined=defined)
    if "HANDOFF_REDIS_URL" in unknown:  # the default in its place is nobody's server
        return facts
    with connect(settings, timeout=PATIENCE) as client:
        nodes = _nodes(client, settings)
        found = None if all(node.error for node in nodes) else installation.read(client, settings)
    broker = None if "HANDOFF_BROKER_URL" in unknown else brokers.try_broker(settings)
    return Facts(settings, wrong, strays, defined, nodes, broker, found)


def _nodes(client: redis.Redis, settings: Settings) -> tuple[Node, ...]:
    """What the server says of itself, or each node of a cluster that has a part of the keys."""
    address = settings.address
    if address.kind is not Kind.CLUSTER:
        return (ask(client, address_of(address.server_url)),)
    try:
        each = servers(client)
    except (redis.exceptions.RedisError, OSError) as error:
        return (Node(str(address.hosts[0]), error=describe(error)),)
    return tuple(ask(node, _place(node)) for node in each)


def _place(node: redis.Redis) -> str:
    words = node.connection_pool.connection_kwargs
    return str(Host(words["host"], words["port"]))
