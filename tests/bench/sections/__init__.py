"""What is measured of Handoff alone; each returns figures by name, and what stands beside them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """``rows``: what, how much, in which unit. ``note`` says what one has to know to read them. ``series`` are the same
    figures as curves, for pictures: points by the name of the curve."""

    title: str
    rows: list[tuple[str, float, str]] = field(default_factory=list)
    note: str = ""
    series: dict[str, list[dict[str, float]]] = field(default_factory=dict)
