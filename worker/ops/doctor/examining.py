"""Gathers the facts and runs every check over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

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
from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding
from worker.store.client import connect

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
        node = ask(client, address_of(settings.redis_url))
        found = None if node.error else installation.read(client, settings)
    broker = None if "HANDOFF_BROKER_URL" in unknown else brokers.try_broker(settings)
    return Facts(settings, wrong, strays, defined, (node,), broker, found)
