"""Legacy webhooks: three events about campaigns, without id and seq (PROVIDER.md 9).

They can't be ordered or told from their own repeats, so they are quarantined; the models let a person, or a program
that empties the quarantine, read them.
"""

from __future__ import annotations

from worker.core.models.base import Id, Moment, Wire
from worker.core.models.team import AccountLink, Campaign, Team
from worker.core.models.v1 import Message, Thread


class External(Wire):
    """The person outside the team; its fields are not documented."""

    id: Id | None = None
    platform: str | None = None
    platform_id: Id | None = None


class LegacyData(Wire):
    team: Team | None = None
    account_link: AccountLink | None = None
    message: Message | None = None
    external: External | None = None
    thread: Thread | None = None
    campaign: Campaign | None = None


class LegacyEvent(Wire):
    """``event``: targetContacted, targetFollowUpSent, targetReplied."""

    shown = Wire.shown | {"event"}

    event: str = ""
    platform: str | None = None
    timestamp: Moment | None = None
    version: str | None = None
    source: str | None = None
    data: LegacyData | None = None

    @property
    def team_id(self) -> str | None:
        team = getattr(self.data, "team", None)
        return team.id if isinstance(team, Team) else None
