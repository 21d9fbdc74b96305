"""For the tests of handlers: build changes, run a handler on them by the real rules, show that it converges.

    from worker.testing import change, run

    def test_a_busy_crm_is_asked_again() -> None:
        outcome = run(push_owner, change("ada", previous="ben"))
        assert (outcome.kind, outcome.after) == ("retry", 5.0)

No server is needed for that. For the whole road, from delivery to dead letter, there is the pytest fixture ``handoff``
(plugin.py), which comes with the package and starts a server when a test asks for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from worker.testing.calls import Call
    from worker.testing.convergence import assert_converges, assert_idempotent
    from worker.testing.events import change, changes, event
    from worker.testing.road import Dead, HandlerStatus, Handoff, Status
    from worker.testing.running import Journey, Outcome, run, run_to_end

__all__ = [
    "Call",
    "Dead",
    "HandlerStatus",
    "Handoff",
    "Journey",
    "Outcome",
    "Status",
    "assert_converges",
    "assert_idempotent",
    "change",
    "changes",
    "event",
    "run",
    "run_to_end",
]

_HOMES: Final = {
    "calls": ("Call",),
    "convergence": ("assert_converges", "assert_idempotent"),
    "events": ("change", "changes", "event"),
    "road": ("Dead", "Handoff", "HandlerStatus", "Status"),
    "running": ("Journey", "Outcome", "run", "run_to_end"),
}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: wherever Handoff is installed, pytest imports this package at every start."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"worker.testing.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
