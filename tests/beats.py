"""Heartbeats for tests, as a worker's watchdog writes them."""

from __future__ import annotations

from typing import Any

from worker.core.liveness import Condition
from worker.store.heartbeats import Beat


def beat(**changes: Any) -> Beat:
    fields: dict[str, Any] = {
        "id": "one",
        "name": "celery@web1",
        "host": "web1",
        "pid": 17,
        "started": 1_000,
        "version": "0.1.0",
        "celery": "5.7.0",
        "pool": "prefork",
        "places": 2,
        "busy": 0,
        "queues": ["handoff.sequence", "handoff.deliver"],
        "received": 5,
        "received_at": 2_000,
        "condition": Condition.WORKING,
        "unheard": 0.0,
        "waiting": None,
        "handlers": {"crm": "0123456789ab"},
        "skew_ms": 3,
    }
    return Beat(**fields | changes)
