"""The key families: each row of the table in ``worker/store/keys.py`` is one, and what holds it is said here.

A key that no row describes is a finding of its own, and so is a row without a bound (test_families.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from worker.settings import Settings
from worker.store import actions, keys

BROKER: Final = "(broker)"
UNLISTED: Final = "(unlisted)"

LENGTH: Final = {"string": "STRLEN", "hash": "HLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "stream": "XLEN"}
NODE: Final = 100  # entries: a stream that is trimmed approximately loses whole nodes of so many


@dataclass(frozen=True)
class Bound:
    """``by`` is what holds a family, in words. ``most``: entries that it may have, from (settings, partitions); with
    ``trimmed`` there may be more while work is going on, for what is over it is taken out behind each batch. ``ends``:
    it is empty when the work is over. ``fills``: it may grow until ``most``, which a short run does not see."""

    by: str
    most: Callable[[Settings, int], int] | None = None
    ends: bool = False
    fills: bool = False
    trimmed: bool = False


_WORK: Final = Bound("the work that waits; empty after it", ends=True)
_TEAMS: Final = Bound("the teams and prospects there are; HANDOFF_MEMORY")
_SECONDS: Final = Bound("its own life of seconds")
_FIXED: Final = Bound("what the installation has: handlers, workers, partitions")
_ARCHIVED: Final = Bound(
    "HANDOFF_ARCHIVE_EVENTS", most=lambda settings, partitions: settings.archive_events * partitions, trimmed=True
)

BOUNDS: Final[dict[str, Bound]] = {
    "config": _FIXED,
    "handlers": _FIXED,
    "replays": _FIXED,
    "actions": Bound("the newest 10,000", most=lambda _, __: actions.MOST + NODE, fills=True),
    "rate:{H}": _SECONDS,
    "turns:{H}": _SECONDS,
    "control:{H}": _FIXED,
    "sweeper": _SECONDS,
    "{workers}:beats": Bound("a minute of silence"),
    "{workers}:last": Bound("a minute of silence"),
    "{pNN}:inbox": Bound("the work that waits, and the archive"),
    "{pNN}:state": _FIXED,
    "{pNN}:lease": _SECONDS,
    "{pNN}:bell": _SECONDS,
    "{pNN}:bell:H": _SECONDS,
    "{pNN}:seen:N": Bound("HANDOFF_DEDUP_WINDOW, twice"),
    "{pNN}:team:T": _TEAMS,
    "{pNN}:owner:T:X": _TEAMS,
    "{pNN}:held:T": _WORK,
    "{pNN}:gaps": _WORK,
    "{pNN}:ready:H": _WORK,
    "{pNN}:turns:H": Bound("the teams whose lanes wait in turn"),
    "{pNN}:rate:H:T": _SECONDS,
    "{pNN}:parked:H": _SECONDS,
    "{pNN}:lane:H:L": _WORK,
    "{pNN}:claims:H": _WORK,
    "{pNN}:trouble:H": _WORK,
    "{pNN}:blocked:H": _WORK,
    "{pNN}:missed:H": Bound("the prospects there are; until told, or 90 days"),
    "{pNN}:refs": Bound("the work that waits, and the archive"),
    "{pNN}:archive": _ARCHIVED,
    "{pNN}:ids": Bound("the archive's records, and the held events"),
    "{pNN}:ends": Bound("the archive's records, by handler"),
    "{pNN}:replays": _FIXED,
    "{pNN}:again": Bound("as many as records", most=_ARCHIVED.most, fills=True, trimmed=True),
    "{pNN}:ledger": Bound("its counters"),
    "{pNN}:quarantine": Bound(
        "HANDOFF_QUARANTINE_MAX",
        most=lambda settings, partitions: (settings.quarantine_max + NODE) * partitions,
        fills=True,
    ),
    "{pNN}:dead": Bound("people, who act on it", ends=True),
    BROKER: Bound("bells that are on their way"),
    UNLISTED: Bound("nothing: no row of worker/store/keys.py describes it", most=lambda _, __: 0),
}

_PLACEHOLDERS: Final = {"{pNN}": r"\{p\d+\}", "{H}": r"\{.+\}"}
_ROW: Final = re.compile(r"^P:(?P<pattern>\S+) +(?P<type>\w+) ", re.MULTILINE)


def rows() -> dict[str, str]:
    """The table: each family with the type of its keys."""
    return {found["pattern"]: found["type"] for found in _ROW.finditer(keys.__doc__ or "")}


class Families:
    """Finds the family of a key."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}:"
        self._shapes = [(re.compile(_shape(pattern), re.DOTALL), pattern) for pattern in rows()]

    def of(self, key: str) -> str:
        name = key.removeprefix(self._prefix)
        if name.startswith("broker:"):
            return BROKER
        if name != key:
            for shape, pattern in self._shapes:
                if shape.fullmatch(name):
                    return pattern
        return UNLISTED


def _shape(pattern: str) -> str:
    """A row's pattern as an expression: single capitals stand for names."""
    words = []
    for word in pattern.split(":"):
        if word in _PLACEHOLDERS:
            words.append(_PLACEHOLDERS[word])
        else:
            words.append(".+" if re.fullmatch("[A-Z]", word) else re.escape(word))
    return ":".join(words)
