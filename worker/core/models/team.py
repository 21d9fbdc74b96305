"""What belongs to a team of the provider: members, accounts, tags, statuses, campaigns (PROVIDER.md 6)."""

from __future__ import annotations

from worker.core.models.base import Flag, Id, Moment, Number, Whole, Wire


class Tag(Wire):
    id: Id | None = None
    name: str | None = None
    color: str | None = None


class Status(Wire):
    """A step of the team's pipeline."""

    id: Id | None = None
    name: str | None = None
    color: str | None = None
    created_at: Moment | None = None


class Member(Wire):
    """A user in a team. ``assigneeId`` everywhere is this ``id``, not ``user_id``. ``role``: owner, admin, user."""

    id: Id | None = None
    user_id: Id | None = None
    name: str | None = None
    email: str | None = None
    image: str | None = None
    role: str | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None


class Team(Wire):
    id: Id | None = None
    name: str | None = None
    slug: str | None = None
    image: str | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    currency: str | None = None
    allow_support_access: Flag | None = None


class AccountLink(Wire):
    """The team's own account on the platform. ``status``: active, offline, paused."""

    id: Id | None = None
    platform: str | None = None
    platform_id: Id | None = None
    name: str | None = None
    username: str | None = None
    image: str | None = None
    created_at: Moment | None = None
    status: str | None = None
    synced_at: Moment | None = None


class Campaign(Wire):
    """``status``: draft, active, paused, completed. Rates are 0 to 1."""

    id: Id | None = None
    name: str | None = None
    description: str | None = None
    status: str | None = None
    dry_run: Flag | None = None
    targets_count: Whole | None = None
    contacted_count: Whole | None = None
    replies_count: Whole | None = None
    completion_rate: Number | None = None
    reply_rate: Number | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    paused_at: Moment | None = None
    completed_at: Moment | None = None
    last_started_at: Moment | None = None
