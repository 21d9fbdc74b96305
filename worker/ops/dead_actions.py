"""`handoff dead retry` and `drop`: what they choose, do, and say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from worker.ops import tables
from worker.ops.acting import Action
from worker.ops.installed import Installed
from worker.store.control import controls
from worker.store.dead import DeadFilter, Letter, letters_at, select_dead
from worker.store.installation import known_handlers
from worker.store.pages import Window
from worker.store.revival import MOST, Outcome, Revival, chunks, drop

GROUPS: Final = ("handler", "error")
GONE: Final = "gone: somebody else was quicker"
STALE: Final = (
    "stale, and left where they are: a newer change of the prospect went out with another owner "
    "(--force calls them all the same, `handoff dead drop --stale` forgets them)"
)
LOST: Final = "left: the event's body was lost (they can only be dropped)"


def choose(
    found: Installed, places: Sequence[tuple[int, str]], wanted: DeadFilter, window: Window
) -> tuple[list[Letter], int]:
    """The letters in the order to act on them, and how many that were named are not there."""
    if not places:
        return select_dead(found.client, found.partitions, wanted, window), 0
    letters = letters_at(found.client, found.partitions, places)
    return letters, len(set(places)) - len(letters)


def retry(
    found: Installed, letters: Sequence[Letter], missing: int, args: Mapping[str, Any], *, force: bool
) -> Action[Letter]:
    """Back into their lanes."""
    revival = _revival(found, force=force)
    return Action(
        name="dead retry",
        args=args,
        verb="retry",
        one="dead letter",
        many="dead letters",
        things=letters,
        group=_group,
        names=GROUPS,
        pieces=lambda most: chunks(letters, most),
        most=MOST,
        do=lambda piece: map(_named, revival.revive(piece)),
        judge=lambda piece: map(_named, revival.judge(piece)),
        outcomes={"retried": "retried", "stale": STALE, "lost": LOST, "gone": GONE},
        bad={"stale", "lost"},
        missing=missing,
    )


def forget(found: Installed, letters: Sequence[Letter], missing: int, args: Mapping[str, Any]) -> Action[Letter]:
    """Out of the dead letters, for good."""
    partitions = {keys.partition: keys for keys in found.partitions}

    def do(piece: Sequence[Letter]) -> list[str]:
        there = drop(found.scripts, partitions[piece[0].partition], piece)
        return ["dropped" if was else "gone" for was in there]

    return Action(
        name="dead drop",
        args=args,
        verb="drop",
        one="dead letter",
        many="dead letters",
        things=letters,
        group=_group,
        names=GROUPS,
        pieces=lambda most: chunks(letters, most),
        most=MOST,
        do=do,
        outcomes={"dropped": "dropped", "gone": GONE},
        missing=missing,
    )


def stale_ones(found: Installed, letters: Sequence[Letter]) -> list[Letter]:
    """Those that a retry would leave because a newer change has overtaken them."""
    revival = _revival(found, force=False)
    return [
        letter
        for piece in chunks(letters)
        for letter, outcome in zip(piece, revival.judge(piece), strict=True)
        if outcome is Outcome.STALE
    ]


def warnings(found: Installed, letters: Iterable[Letter]) -> list[str]:
    """A line for each handler that would not be called now: no worker announces it, or a person paused it."""
    counts = Counter(letter.handler for letter in letters)
    known = known_handlers(found.client, found.settings)
    said = controls(found.client, found.settings.prefix, counts)
    lines = []
    for name, count in counts.items():
        would = f"{tables.plural(count, 'retried job')} would wait until"
        if name not in known:
            lines.append(f"No worker announces the handler {tables.cell(name).plain}: {would} one does.")
        elif said[name].paused is not None:
            lines.append(f"The handler {name} is paused: {would} `handoff handlers resume {name}`.")
    return lines


def take_events(found: Installed) -> frozenset[str]:
    """Handlers that were defined with ``on=``: they are called with events, not with changes."""
    known = known_handlers(found.client, found.settings)
    return frozenset(name for name, described in known.items() if isinstance(described.get("on"), list))


def _revival(found: Installed, *, force: bool) -> Revival:
    known = known_handlers(found.client, found.settings)
    partitions = {keys.partition: keys for keys in found.partitions}
    takers = frozenset(name for name, described in known.items() if described.get("late") == "all")
    return Revival(found.client, found.scripts, partitions, force, takers, take_events(found))


def _group(letter: Letter) -> tuple[str, ...]:
    return letter.handler, letter.error


def _named(outcome: Outcome) -> str:
    return "retried" if outcome is Outcome.REVIVED else outcome.value
