"""Which lane a job goes to: what a handler's work is ordered by, written so that the team can be read back.

    order_by="team"      escaped(team)                   one line for all of a team
    order_by="prospect"  escaped(team):prospect key      one for each prospect; an event that names none: the team's
    order_by=None        escaped(team):entry id          one for each event, so no order at all

A team's own colons are escaped, so whatever its id holds, the first colon of a lane's name ends it.
"""

from __future__ import annotations

from typing import Final, Literal

OrderBy = Literal["team", "prospect"] | None
ORDERS: Final[tuple[OrderBy, ...]] = ("team", "prospect", None)


def escaped(text: str) -> str:
    """``text`` without a colon, and different for every other text."""
    if ":" in text or "%" in text:
        return text.replace("%", "%25").replace(":", "%3A")
    return text


def unescaped(text: str) -> str:
    """What ``escaped`` was given."""
    return text.replace("%3A", ":").replace("%25", "%") if "%" in text else text


def lane_of(order_by: OrderBy, team: str, prospect: str | None, entry: str) -> str:
    """The lane of an event of ``team``, which must be escaped already: it is asked for once per handler."""
    if order_by == "team" or (order_by == "prospect" and prospect is None):
        return team
    return f"{team}:{prospect if order_by == 'prospect' else entry}"


def team_of(lane: str) -> str:
    """The team of a lane, whatever its handler is ordered by."""
    return unescaped(lane.partition(":")[0])
