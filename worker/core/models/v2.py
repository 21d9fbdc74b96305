"""The provider's API v2: an event names the object that changed and carries the values of the change (PROVIDER.md 7).

There is no team in it: the URL that it was posted to says which (``event.team_id`` of Handoff's own Event).
"""

from __future__ import annotations

from worker.core.models.base import Id, Moment, Number, Whole, Wire


class ObjectRef(Wire):
    """What changed. ``type``: contact, thread, message, ... ``url`` is its path under the API, 404 once deleted."""

    type: str | None = None
    id: Id | None = None
    url: str | None = None


class ChangeV2(Wire):
    """The values of the change: of these fields, the few that the event's type has.

    ``assignee_id`` is None for nobody and when nothing is said: see ``assignee_known``. ``scope`` of a deleted message:
    self, all. ``step_number`` is a campaign's.
    """

    assignee_id: Id | None = None
    status_id: Id | None = None
    tag_ids: list[Id] | None = None
    notes: str | None = None
    valuation: Number | None = None
    thread_id: Id | None = None
    message_id: Id | None = None
    contact_id: Id | None = None
    account_link_id: Id | None = None
    platform: str | None = None
    scope: str | None = None
    emoji: str | None = None
    author_platform_id: Id | None = None
    step_number: Whole | None = None

    @property
    def assignee_known(self) -> bool:
        return self.has("assignee_id")


class EventV2(Wire):
    """One event. ``id``, ``seq`` and ``type`` are always there for a handler (see EventV1)."""

    id: Id = ""
    seq: Whole = 0
    type: str = ""
    api_version: str | None = None
    created_at: Moment | None = None
    object: ObjectRef | None = None
    data: ChangeV2 | None = None
