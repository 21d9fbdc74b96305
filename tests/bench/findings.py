"""What the bench has found so far, and what could not be measured: kept as it comes, for it may end at any moment."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests import servers
from tests.bench.arena import Run
from tests.bench.sections import Section

FAULTS: Final = ("wrong", "not accepted")
"""Rows of sections that are 0 where all is as it should be."""


@dataclass(frozen=True)
class Absence:
    """Why ``contender`` has no figures of ``round``; 0: of any round, for it can't run here."""

    contender: str
    reason: str
    round: int = 0


@dataclass
class Findings:
    """``failed`` has why a section was not measured, by the section's name."""

    options: Mapping[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    absent: list[Absence] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """In words, each reason why the figures are not to be taken for Handoff's. Other contenders may be absent or
        do their work badly: that is what they are compared for."""
        handoff = [one for one in self.absent if one.contender.startswith("handoff")]
        return [
            *(f"{one.contender}{f', round {one.round}' if one.round else ''}: {one.reason}" for one in handoff),
            *(
                f"{run.contender}, round {run.round}: {run.verdict or ''}{'' if run.finished else ', not finished'}"
                for run in self.runs
                if run.contender.startswith("handoff") and not _right(run)
            ),
            *(f"{name}: {reason}" for name, reason in self.failed.items()),
            *(
                f"{section.title}: {figure:,.0f} {what.strip()}"
                for section in self.sections
                for what, figure, _ in section.rows
                if what.strip() in FAULTS and figure
            ),
        ]

    def document(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        """Every run as measured, not only the medians."""
        return {
            "options": dict(self.options),
            "machine": dict(machine),
            "runs": [{**asdict(run), "rate": run.rate} for run in self.runs],
            "absent": [asdict(one) for one in self.absent],
            "sections": [asdict(section) for section in self.sections],
            "failed": dict(self.failed),
        }


def machine() -> dict[str, Any]:
    """What the figures depend on most. ``cpus`` are those that this process may use."""
    said = subprocess.run([servers.binary("valkey"), "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "server": next((word.removeprefix("v=") for word in said.split() if word.startswith("v=")), ""),
    }


def reason(error: Exception) -> str:
    """One line of ``error``, for people."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__


def _right(run: Run) -> bool:
    verdict = run.verdict
    return run.finished and (verdict is None or (verdict.exactly_once and not verdict.disordered))
