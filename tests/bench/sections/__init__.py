"""What is measured of Handoff alone; each returns figures by name, and what stands beside them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """``rows``: what, how much, in which unit. ``note`` says what one has to know to read them."""

    title: str
    rows: list[tuple[str, float, str]] = field(default_factory=list)
    note: str = ""
