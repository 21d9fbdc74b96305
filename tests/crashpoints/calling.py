"""What the handlers of these tests do: one effect, noted where the test can read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Sink = Callable[[str, Any, int], None]

sink: Sink = lambda handler, subject, attempt: None  # noqa: E731 - replaced by whoever wants to know


def effect(handler: str, subject: Any, attempt: int) -> None:
    """A call of ``handler`` for ``subject`` takes effect."""
    sink(handler, subject, attempt)
