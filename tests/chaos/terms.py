"""What the handlers of the runs are, for those who only have to know of them: importing handlers.py defines them."""

from __future__ import annotations

from typing import Final

from tests.chaos.history import Terms

SLOW_QUEUE: Final = "chaos.slow"

TERMS: Final = (
    Terms("every", changes=False),
    Terms("prospects", order_by="prospect"),
    Terms("flaky"),
    Terms("synced", conflates=True),
    Terms("batched"),
    Terms("slow"),
)
