"""What a check says: how bad, what was found, what it leads to, and which setting or directive to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"  # safe, and an operator should know of it; or it could not be looked at for want of rights
    UNSAFE = "unsafe"  # events can be lost, refused, doubled or forged, or nothing works on them
    UNKNOWN = "unknown"  # the server could not be asked


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` is a stable name for programs, ``where`` the server or worker that it is about, if it is about one.

    ``why`` and ``remedy`` are empty where all is well. None of it holds a secret, nor a URL that may.
    """

    level: Level
    check: str
    what: str
    why: str = ""
    remedy: str = ""
    where: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """2 where something could not be asked, else 1 where something is unsafe, else 0: warnings are for people."""
    levels = {finding.level for finding in findings}
    return 2 if Level.UNKNOWN in levels else 1 if Level.UNSAFE in levels else 0


def document(findings: Iterable[Finding]) -> dict[str, Any]:
    """The findings as JSON has them."""
    found = list(findings)
    return {"safe": exit_code(found) == 0, "findings": [asdict(finding) for finding in found]}


WORST_FIRST: Final = (Level.UNKNOWN, Level.UNSAFE, Level.WARN, Level.OK)
