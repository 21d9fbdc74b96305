"""Handlers that come with Handoff, one file each, built on nothing but what ``import worker`` gives to anybody.

Each is on once its variable is set, and off until then; ``log`` is there while nothing else is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

LOG: Final = "worker.handlers.log"


class Shipped(NamedTuple):
    """What puts a module's handlers on: ``variable``. ``example`` is the least that works, for those who read of it."""

    variable: str
    example: Mapping[str, str]


SHIPPED: Final[Mapping[str, Shipped]] = {
    "worker.handlers.jsonl": Shipped("HANDOFF_JSONL_PATH", {"HANDOFF_JSONL_PATH": "-"}),
    "worker.handlers.notify": Shipped("HANDOFF_NOTIFY_URLS", {"HANDOFF_NOTIFY_URLS": "json://localhost"}),
    "worker.handlers.webhook": Shipped(
        "HANDOFF_WEBHOOK_OUT_URL",
        {
            "HANDOFF_WEBHOOK_OUT_URL": "https://example.com/hook",
            "HANDOFF_WEBHOOK_OUT_SECRET": "whsec_" + "A" * 32,
        },
    ),
    "worker.handlers.hubspot": Shipped(
        "HANDOFF_HUBSPOT_TOKEN",
        {"HANDOFF_HUBSPOT_TOKEN": "pat-...", "HANDOFF_MEMBERS": "member=ann@example.com"},
    ),
    "worker.handlers.salesforce": Shipped(
        "HANDOFF_SALESFORCE_URL",
        {
            "HANDOFF_SALESFORCE_URL": "https://example.my.salesforce.com",
            "HANDOFF_SALESFORCE_CLIENT_ID": "3MVG9...",
            "HANDOFF_SALESFORCE_CLIENT_SECRET": "...",
            "HANDOFF_MEMBERS": "member=ann@example.com",
        },
    ),
    "worker.handlers.sql": Shipped("HANDOFF_SQL_URL", {"HANDOFF_SQL_URL": "sqlite:///owners.db"}),
}
"""By module. ``handoff settings MODULE`` shows what each can be told."""


def configured(variables: Mapping[str, str]) -> list[str]:
    """The modules that ``variables`` (the environment's, names in capitals) put on, by value or by file."""
    return [
        module
        for module, shipped in SHIPPED.items()
        if variables.get(shipped.variable, "").strip() or variables.get(f"{shipped.variable}_FILE", "").strip()
    ]
