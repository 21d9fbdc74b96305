"""`handoff lanes pause`, `resume` and `unblock`: what they choose, do, and say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from worker.core.lanes import team_of
from worker.ops import lane_list
from worker.ops.acting import Action
from worker.ops.installed import Installed
from worker.ops.people import who
from worker.store import blocking
from worker.store.blocking import Why
from worker.store.keys import partition_of

MOST: Final = 200

Place = tuple[int, str]
"""Partition and lane."""


def named(found: Installed, lanes: Iterable[str]) -> list[Place]:
    """Lanes by their names, wherever they are."""
    count = len(found.partitions)
    return sorted({(partition_of(team_of(lane), count), lane) for lane in lanes}) if count else []


def of_team(found: Installed, handler: str, team: str) -> list[Place]:
    """The team's own lane, and every other that has jobs of it now."""
    return _sorted(
        (keys.partition, lane)
        for keys in lane_list.partitions(found, team)
        for lane in blocking.names(found.client, keys, handler, team)
    )


def blocked(found: Installed, handler: str, why: Why, *, team: str | None, error: str | None = None) -> list[Place]:
    """Every lane of the handler that is blocked for that reason."""
    return _sorted(
        (keys.partition, lane)
        for keys in lane_list.partitions(found, team)
        for lane in blocking.blocked_names(found.client, keys, handler, why, team=team, error=error)
    )


def pause(found: Installed, handler: str, lanes: Sequence[Place], args: Mapping[str, Any]) -> Action[Place]:
    by = who()

    def do(piece: Sequence[Place]) -> list[str]:
        return blocking.pause(found.scripts, found.partitions[piece[0][0]], handler, [lane for _, lane in piece], by)

    outcomes = {"paused": "paused", "already": "paused or blocked before: as they were"}
    return _action("pause", handler, lanes, args, do, outcomes)


def resume(found: Installed, handler: str, lanes: Sequence[Place], args: Mapping[str, Any]) -> Action[Place]:
    return _action(
        "resume",
        handler,
        lanes,
        args,
        _letting_on(found, handler, Why.PAUSED),
        {"freed": "resumed", "not": "not paused: as they were (`handoff lanes unblock` is for those that are blocked)"},
        bad={"not"},
    )


def unblock(
    found: Installed, handler: str, lanes: Sequence[Place], args: Mapping[str, Any], *, give_up: bool
) -> Action[Place]:
    outcomes = {"freed": "unblocked: the first job is tried afresh"}
    if give_up:
        outcomes = {
            "buried": "unblocked: the first job is a dead letter",
            "freed": "unblocked: no job was left to give up",
        }
    outcomes["not"] = "not blocked: as they were (`handoff lanes resume` is for those that are paused)"
    outcomes["claimed"] = "being worked on: as they were"
    action = _letting_on(found, handler, Why.EXHAUSTED, give_up=give_up)
    return _action("unblock", handler, lanes, args, action, outcomes, bad={"not", "claimed"})


def _letting_on(found: Installed, handler: str, why: Why, *, give_up: bool = False) -> Any:
    def do(piece: Sequence[Place]) -> list[str]:
        keys = found.partitions[piece[0][0]]
        return blocking.unblock(found.scripts, keys, handler, [lane for _, lane in piece], why, give_up=give_up)

    return do


def _action(  # noqa: PLR0917 - as they come
    verb: str,
    handler: str,
    lanes: Sequence[Place],
    args: Mapping[str, Any],
    do: Any,
    outcomes: Mapping[str, str],
    bad: set[str] | None = None,
) -> Action[Place]:
    return Action(
        name=f"lanes {verb}",
        args={"handler": handler, **args},
        verb=verb,
        one="lane",
        many="lanes",
        things=lanes,
        group=lambda _: (handler,),
        names=("handler",),
        pieces=lambda most: _pieces(lanes, most),
        most=MOST,
        do=do,
        outcomes=outcomes,
        bad=bad or set(),
    )


def _pieces(lanes: Sequence[Place], most: int) -> Iterator[Sequence[Place]]:
    for _, group in groupby(lanes, key=itemgetter(0)):
        some = list(group)
        for start in range(0, len(some), most):
            yield some[start : start + most]


def _sorted(places: Iterable[Place]) -> list[Place]:
    """Each once: a scan may name one twice."""
    return sorted(set(places))
