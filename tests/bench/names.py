"""What the bench and the handlers that it measures both name. It imports nothing: handlers would carry it along."""

from __future__ import annotations

from typing import Final

LIST: Final = "bench:handled:"
"""Every handler appends an event's number to the list of this name and its team."""
