"""The settings that all handlers share which have to know members: see worker/members.py."""

from __future__ import annotations

from pydantic import Field

from worker.handler_settings import HandlerSettings, Pairs, SecretList


class Options(HandlerSettings, env_prefix="HANDOFF_"):
    """Settings that all handlers share which have to know members."""

    members: Pairs = Field(
        default_factory=dict,
        description="`member id=e-mail` pairs, comma-separated: who is who elsewhere. Goes before what Inbox says.",
    )
    inbox_token: SecretList = Field(
        default_factory=list,
        description="API token of Inbox, which may list the team's members; comma-separated for several teams.",
    )
    inbox_url: str = Field(
        "https://inboxapp.com/api/v1", pattern="^https?://[^/]", description="Where Inbox's API v1 is."
    )
