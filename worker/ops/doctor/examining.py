"""Gathers the facts and runs every check over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from worker.ops.command_settings import command_settings
from worker.ops.doctor import durability_checks, server_checks
from worker.ops.doctor.asking import address_of, ask
from worker.ops.doctor.facts import Facts
from worker.ops.doctor.findings import Finding
from worker.settings import Settings
from worker.store.client import connect

Check = Callable[[Facts], Iterable[Finding]]

CHECKS: Final[tuple[Check, ...]] = (
    server_checks.reachable,
    server_checks.version,
    server_checks.primary,
    durability_checks.eviction,
    durability_checks.append_only,
)
PATIENCE: Final = 5.0  # seconds for one command


def examine() -> list[Finding]:
    """Every finding, in the order of ``CHECKS``. Raises ``ConfigurationError``."""
    facts = gather(command_settings())
    return [finding for check in CHECKS for finding in check(facts)]


def gather(settings: Settings) -> Facts:
    with connect(settings, timeout=PATIENCE) as client:
        return Facts(settings, (ask(client, address_of(settings.redis_url)),))
