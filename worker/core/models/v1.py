"""The provider's API v1: the envelope with ``version`` "1.0", prospects, threads and messages (PROVIDER.md 2, 5 and 6).

Webhooks send less of an object than the API does, and samples less than the schema: every field may be absent. The
values listed for a field are those known; more may come, so all of them are plain texts.
"""

from __future__ import annotations

from typing import Any

from worker.core.models.base import Flag, Id, Moment, Number, Whole, Wire
from worker.core.models.team import Campaign, Status, Tag


class ContextThread(Wire):
    """A thread as named in a prospect's context; the API sends it, webhooks don't."""

    id: Id | None = None
    account_link_id: Id | None = None
    last_message_timestamp: Moment | None = None
    created_at: Moment | None = None


class Context(Wire):
    """What the team says of a prospect. ``tags`` are tag ids; ``valuation`` is in the team's currency.

    ``assignee_id`` is a member's id. It is None both for nobody and when the event says nothing about it: ask
    ``assignee_known`` first. Only ``prospect.assigneeChanged`` is known to have it.
    """

    tags: list[Id] | None = None
    status_id: Id | None = None
    assignee_id: Id | None = None
    valuation: Number | None = None
    notes: str | None = None
    threads: list[ContextThread] | None = None

    @property
    def assignee_known(self) -> bool:
        return self.has("assignee_id")


class UrlEntity(Wire):
    url: str | None = None
    expanded_url: str | None = None
    display_url: str | None = None
    indices: list[Whole] | None = None


class PlatformData(Wire):
    is_verified_blue: Flag | None = None
    is_verified_gold: Flag | None = None
    is_verified_gray: Flag | None = None
    professional_category: str | None = None
    url_entities: list[UrlEntity] | None = None
    banner_url: str | None = None
    tweets_count: Whole | None = None
    favorites_count: Whole | None = None
    raw_data: dict[str, Any] | None = None


class Prospect(Wire):
    """A person outside the team. Identity is ``external_id`` (Inbox's id; null until imported), else ``platform`` and
    ``platform_id``.

    ``verified``: none, verified, business, government. ``profile_type``: personal, business, government. ``source``:
    cached, indexed, live, merged. ``confidence`` is 0 to 1.
    """

    platform: str | None = None
    platform_id: Id | None = None
    external_id: Id | None = None
    document_id: Whole | None = None
    display_name: str | None = None
    username: str | None = None
    handle: str | None = None
    image: str | None = None
    image_normalized: str | None = None
    bio: str | None = None
    location: str | None = None
    profile_url: str | None = None
    website_url: str | None = None
    website_domain: str | None = None
    verified: str | None = None
    profile_type: str | None = None
    is_protected: Flag | None = None
    follower_count: Whole | None = None
    following_count: Whole | None = None
    post_count: Whole | None = None
    engagement_count: Whole | None = None
    listed_count: Whole | None = None
    platform_created_at: Moment | None = None
    first_seen_at: Moment | None = None
    last_updated_at: Moment | None = None
    last_enriched_at: Moment | None = None
    last_active_at: Moment | None = None
    source: str | None = None
    is_fresh: Flag | None = None
    is_stale: Flag | None = None
    confidence: Number | None = None
    platform_data: PlatformData | None = None
    account_status: str | None = None
    context: Context | None = None


class LastMessage(Wire):
    """``author_id`` is an account link's id or a prospect's, old or new."""

    id: Id | None = None
    content: str | None = None
    author_id: Id | None = None
    created_at: Moment | None = None
    user_id: Id | None = None
    campaign_id: Id | None = None


class Thread(Wire):
    """A conversation. ``status``: active, idle. ``variant``: unencrypted, xChat.

    ``assignee_id`` is None for nobody and when nothing is said: see ``assignee_known``. ``platform_id`` is
    ``smallerUserId:largerUserId``.
    """

    id: Id | None = None
    platform: str | None = None
    platform_id: Id | None = None
    done: Flag | None = None
    assignee_id: Id | None = None
    last_message_timestamp: Moment | None = None
    computed_sort_timestamp: Moment | None = None
    created_at: Moment | None = None
    status: str | None = None
    variant: str | None = None
    account_link_id: Id | None = None
    is_syncing: Flag | None = None
    is_request: Flag | None = None
    typing_indicators_enabled: Flag | None = None
    last_message: LastMessage | None = None
    prospect: Prospect | None = None

    @property
    def assignee_known(self) -> bool:
        return self.has("assignee_id")


class Reaction(Wire):
    emoji: str | None = None
    sender_platform_id: Id | None = None
    created_at: Moment | None = None


class Message(Wire):
    """``origin``: internal, external, api. What the schema leaves open (entities, attachment, ...) stays plain JSON."""

    platform: str | None = None
    team_id: Id | None = None
    thread_id: Id | None = None
    id: Id | None = None
    user_id: Id | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    platform_id: Id | None = None
    content: str | None = None
    campaign_id: Id | None = None
    author_id: Id | None = None
    origin: str | None = None
    reply_data: Any = None
    forward_data: Any = None
    entities: Any = None
    attachment: Any = None
    reactions: list[Reaction] | None = None
    is_encrypted: Flag | None = None
    is_edited: Flag | None = None
    deleted_at: Moment | None = None
    platform_deleted_at: Moment | None = None


class Data(Wire):
    """What an event is about: one of the objects, or for the light events (typing, reactions) just ids."""

    prospect: Prospect | None = None
    thread: Thread | None = None
    message: Message | None = None
    tag: Tag | None = None
    status: Status | None = None
    campaign: Campaign | None = None
    thread_id: Id | None = None
    message_id: Id | None = None
    sender_platform_id: Id | None = None
    reaction: Reaction | None = None


class EventV1(Wire):
    """One event. ``id``, ``seq``, ``team_id`` and ``type`` are always there for a handler, because a delivery without
    them is quarantined before; the defaults stand in for them elsewhere.
    """

    id: Id = ""
    seq: Whole = 0
    team_id: Id = ""
    type: str = ""
    timestamp: Moment | None = None
    version: str | None = None
    data: Data | None = None

    @property
    def thread(self) -> Thread | None:
        """The thread that the event is about, if it is about one."""
        found = getattr(self.data, "thread", None)
        return found if isinstance(found, Thread) else None

    @property
    def prospect(self) -> Prospect | None:
        """The prospect that the event is about, itself or through its thread."""
        found = getattr(self.data, "prospect", None) or getattr(self.thread, "prospect", None)
        return found if isinstance(found, Prospect) else None
