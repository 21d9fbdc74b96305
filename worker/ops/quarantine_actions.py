"""`handoff quarantine retry` and `drop`: what they choose, do, and say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from worker.ops.acting import Action
from worker.ops.installed import Installed
from worker.store.keys import PartitionKeys
from worker.store.pages import Window
from worker.store.quarantine import Quarantined, drop_quarantined, quarantined_at, requeue, select_quarantine

MOST: Final = 64
GONE: Final = "gone: somebody else was quicker"
UNREADABLE: Final = (
    "left: this version of Handoff can't read them either, and they would only come back (--force retries them)"
)
DOUBTFUL: Final = "left: they may be duplicates, older than ids are kept (--force says that they were never handled)"


def choose(
    found: Installed, places: Sequence[tuple[int, str]], window: Window, *, team: str | None, reason: str | None
) -> tuple[list[Quarantined], int]:
    """The deliveries in the order to act on them, and how many that were named are not there."""
    if not places:
        return select_quarantine(found.client, found.partitions, window, team=team, reason=reason), 0
    deliveries = quarantined_at(found.client, found.partitions, places)
    return deliveries, len(set(places)) - len(deliveries)


def retry(
    found: Installed, deliveries: Sequence[Quarantined], missing: int, args: Mapping[str, Any], *, force: bool
) -> Action[Quarantined]:
    """Back to the end of the inbox."""

    def fate(delivery: Quarantined) -> str:
        if force or not (delivery.unreadable or delivery.doubtful):
            return "retried"
        return "unreadable" if delivery.unreadable else "doubtful"

    def write(keys: PartitionKeys, piece: Sequence[Quarantined]) -> list[str]:
        going = [delivery for delivery in piece if fate(delivery) == "retried"]
        there = dict(zip(map(id, going), requeue(found.scripts, keys, going) if going else (), strict=True))
        return [fate(each) if there.get(id(each), True) else "gone" for each in piece]

    return _action(
        "retry",
        found,
        deliveries,
        missing,
        args,
        write,
        judge=lambda piece: map(fate, piece),
        outcomes={"retried": "retried", "unreadable": UNREADABLE, "doubtful": DOUBTFUL, "gone": GONE},
    )


def forget(
    found: Installed, deliveries: Sequence[Quarantined], missing: int, args: Mapping[str, Any]
) -> Action[Quarantined]:
    """Out of the quarantine, for good."""

    def write(keys: PartitionKeys, piece: Sequence[Quarantined]) -> list[str]:
        return ["dropped" if was else "gone" for was in drop_quarantined(found.client, keys, piece)]

    return _action("drop", found, deliveries, missing, args, write, outcomes={"dropped": "dropped", "gone": GONE})


def _action(  # noqa: PLR0917 - as they come
    verb: str,
    found: Installed,
    deliveries: Sequence[Quarantined],
    missing: int,
    args: Mapping[str, Any],
    write: Callable[[PartitionKeys, Sequence[Quarantined]], list[str]],
    *,
    outcomes: Mapping[str, str],
    judge: Callable[[Sequence[Quarantined]], Iterable[str]] | None = None,
) -> Action[Quarantined]:
    partitions = {keys.partition: keys for keys in found.partitions}
    return Action(
        name=f"quarantine {verb}",
        args=args,
        verb=verb,
        one="quarantined delivery",
        many="quarantined deliveries",
        things=deliveries,
        group=lambda delivery: (delivery.reason,),
        names=("reason",),
        pieces=lambda most: _pieces(deliveries, most),
        most=MOST,
        do=lambda piece: write(partitions[piece[0].partition], piece),
        judge=judge,
        outcomes=outcomes,
        bad={"unreadable", "doubtful"},
        missing=missing,
    )


def _pieces(deliveries: Sequence[Quarantined], most: int) -> Iterator[Sequence[Quarantined]]:
    for _, group in groupby(deliveries, key=attrgetter("partition")):
        some = list(group)
        for start in range(0, len(some), most):
            yield some[start : start + most]
