"""Replays an installation's archive to a handler: counts first, then goes through the partitions at a bounded rate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from worker.core.replaying import Skip, Wanted, terms_of
from worker.errors import ConfigurationError
from worker.ops.installed import Installed
from worker.store.archive import Archive
from worker.store.installation import known_handlers
from worker.store.replay import PIECE, Plan, Replay, Replays, Step

Sleep = Callable[[float], None]

REASONS: Final = {
    Skip.OTHER: "not asked for",
    Skip.UNWANTED: "not this handler's business",
    Skip.STALE: "overtaken by a newer change of their prospect",
    Skip.WAITING: "waiting for the handler already",
    Skip.DEAD: "among the dead letters: see `handoff dead retry`",
    Skip.LOST: "without their body",
}


@dataclass(slots=True)
class Counts:
    """What was looked at, replayed and skipped."""

    records: int = 0
    replayed: int = 0
    skipped: Counter[Skip] = field(default_factory=Counter)

    def add(self, step: Step) -> None:
        self.records += step.records
        self.replayed += step.replayed
        self.skipped += step.skipped

    def document(self) -> dict[str, Any]:
        return {"records": self.records, "replayed": self.replayed, "skipped": {s.value: self.skipped[s] for s in Skip}}


def archives(found: Installed) -> list[Archive]:
    return [Archive(found.client, found.scripts, keys, found.settings) for keys in found.partitions]


def replays(found: Installed) -> Replays:
    return Replays(found.client, found.settings.prefix, archives(found))


def new(found: Installed, handler: str, by: str, wanted: Wanted, *, force: bool) -> Plan:
    """A replay, not yet written down. Raises ``ConfigurationError`` for a handler that no worker announced."""
    known = known_handlers(found.client, found.settings)
    if handler not in known:
        names = ", ".join(sorted(known)) or "none yet: start a worker that has it"
        raise ConfigurationError("--to", f"no worker announced a handler {handler!r}", f"there is: {names}")
    return replays(found).plan(handler, by, wanted, now=found.now(), force=force)


def steps(found: Installed, plan: Plan, *, rate: float | None, dry: bool, sleep: Sleep = time.sleep) -> Iterator[Step]:
    """Go through all partitions from where the replay is; at most ``rate`` jobs a second.

    Raises ``StoreUnavailable``, ``ReplaysElsewhere``, and ``ConfigurationError`` when no worker announces the handler.
    """
    described = known_handlers(found.client, found.settings).get(plan.handler)
    if described is None:
        raise ConfigurationError("--to", f"no worker announces the handler {plan.handler!r} any more")
    spec = terms_of(described)
    piece = PIECE if rate is None else max(1, min(PIECE, int(rate)))
    for archive in archives(found):
        for step in Replay(archive, plan, spec).steps(piece, dry=dry):
            yield step
            if rate is not None and step.replayed and not dry:
                sleep(step.replayed / rate)
