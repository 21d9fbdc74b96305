"""What a handler is called with: ``AssigneeChange`` and ``Event``, read from the raw body only as far as asked.

Both are light: made for every call, often in the tens of thousands a second, while most handlers look at a few ids. So
nothing is parsed before an attribute needs it, and then once. Their reprs show ids and never a person's data.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.core.changes import ChangeKind
from worker.core.document import quickly
from worker.core.envelope import Envelope, prospect_key, read

if TYPE_CHECKING:
    from worker.core.models import EventV1, EventV2, LegacyEvent


class Event:
    """One event of the provider, released in order.

    ``raw`` is the signed body as it came. ``late`` is True when an event of its team with a higher ``seq``, or another
    with the same, was released before it. ``document`` is the body as plain JSON, ``data`` its ``data`` object;
    ``model`` is the same as a pydantic model that keeps unknown fields (worker.core.models).
    """

    __slots__ = ("_document", "_envelope", "_team", "late", "raw", "seq")

    def __init__(self, raw: bytes, *, team_id: str | None = None, seq: int | None = None, late: bool = False) -> None:
        self.raw = raw
        self.late = late
        self._team = team_id
        self._envelope: Envelope | None = None
        self._document: dict[str, Any] | None = None
        self.seq: int = self.envelope.seq if seq is None else seq

    @property
    def envelope(self) -> Envelope:
        if self._envelope is None:
            self._envelope = read(self.raw, self._team)
        return self._envelope

    @property
    def id(self) -> str:
        return self.envelope.id

    @property
    def team_id(self) -> str:
        return self.envelope.team if self._team is None else self._team

    @property
    def type(self) -> str:
        return self.envelope.type

    @property
    def occurred_at(self) -> datetime | None:
        """When it happened, by the provider's clock (UTC); None when its time can't be read."""
        occurred = self.envelope.occurred_ms
        return None if occurred is None else datetime.fromtimestamp(occurred / 1000, UTC)

    @property
    def document(self) -> dict[str, Any]:
        if self._document is None:
            document: dict[str, Any] = quickly(self.raw)
            self._document = document
        return self._document

    @property
    def data(self) -> dict[str, Any]:
        data = self.document.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def model(self) -> EventV1 | EventV2 | LegacyEvent:
        from worker.core.models import parse

        return parse(self.raw)

    def __repr__(self) -> str:
        return f"Event({self.type!r}, id={self.id!r}, team_id={self.team_id!r}, seq={self.seq}, late={self.late})"


class Prospect:
    """The person whose owner changed, as the event shows them.

    ``key`` is what Handoff knows them by: ``external_id`` (Inbox's prospect id), else ``platform:platform_id``. The
    other attributes are None when the event does not have them; ``data`` is all that it has.
    """

    __slots__ = ("data", "external_id", "key", "platform", "platform_id")

    def __init__(self, key: str, data: dict[str, Any]) -> None:
        self.key = key
        self.data = data
        self.external_id: str | None = _text(data.get("externalId"))
        self.platform: str | None = _text(data.get("platform"))
        self.platform_id: str | None = _text(data.get("platformId"))

    @property
    def username(self) -> str | None:
        return _text(self.data.get("username"))

    @property
    def display_name(self) -> str | None:
        return _text(self.data.get("displayName"))

    @property
    def profile_url(self) -> str | None:
        return _text(self.data.get("profileUrl"))

    @property
    def context(self) -> dict[str, Any]:
        """Tags, status, valuation and notes, as far as the event has them."""
        context = self.data.get("context")
        return context if isinstance(context, dict) else {}

    def __repr__(self) -> str:
        return f"Prospect({self.key!r})"


class AssigneeChange:
    """Previous owner -> current owner of one prospect.

    ``previous_assignee_id`` is None for nobody, and also when it is not known: then ``previous_known`` is False, as at
    the first change ever seen of a prospect. ``kind`` is a ``ChangeKind`` and compares equal to ``"assigned"``,
    ``"reassigned"``, ``"unassigned"`` or ``"unchanged"``. ``stale`` is True where a newer change of the prospect was
    released before. ``absorbed`` has the ids of earlier events that this change stands for too.
    """

    __slots__ = ("_prospect", "absorbed", "event", "kind", "previous_assignee_id", "previous_known", "stale")

    def __init__(
        self,
        event: Event,
        *,
        kind: ChangeKind | str,
        previous_assignee_id: str | None = None,
        previous_known: bool = False,
        stale: bool = False,
        absorbed: tuple[str, ...] = (),
    ) -> None:
        self.event = event
        self.kind = ChangeKind(kind)
        self.previous_assignee_id = previous_assignee_id
        self.previous_known = previous_known
        self.stale = stale
        self.absorbed = absorbed
        self._prospect: Prospect | None = None

    @property
    def event_id(self) -> str:
        return self.event.id

    @property
    def seq(self) -> int:
        return self.event.seq

    @property
    def team_id(self) -> str:
        return self.event.team_id

    @property
    def late(self) -> bool:
        return self.event.late

    @property
    def occurred_at(self) -> datetime | None:
        return self.event.occurred_at

    @property
    def assignee_id(self) -> str | None:
        """The member who owns the prospect now; None for nobody. A member id, not a user id (PROVIDER.md 5)."""
        return self.event.envelope.assignee

    @property
    def prospect(self) -> Prospect:
        if self._prospect is None:
            self._prospect = _prospect_of(self.event)
        return self._prospect

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, for a task in another program: everything above, and the event's document."""
        occurred = self.occurred_at
        return {
            "event_id": self.event_id,
            "seq": self.seq,
            "team_id": self.team_id,
            "prospect": self.prospect.key,
            "previous_assignee_id": self.previous_assignee_id,
            "previous_known": self.previous_known,
            "assignee_id": self.assignee_id,
            "kind": self.kind.value,
            "late": self.late,
            "stale": self.stale,
            "absorbed": list(self.absorbed),
            "occurred_at": None if occurred is None else occurred.isoformat(),
            "event": self.event.document,
        }

    def __repr__(self) -> str:
        return (
            f"AssigneeChange({self.kind.value!r}, {self.previous_assignee_id!r} -> {self.assignee_id!r}, "
            f"prospect={self.prospect.key!r}, team_id={self.team_id!r}, seq={self.seq}, event_id={self.event_id!r}, "
            f"late={self.late})"
        )


def _prospect_of(event: Event) -> Prospect:
    data = event.data
    found = data.get("prospect")
    if event.type.startswith("thread."):
        thread = data.get("thread")
        found = thread.get("prospect") if isinstance(thread, dict) else None
    details = found if isinstance(found, dict) else {}
    if not details:
        # v2 names the contact and carries only the value of the change (PROVIDER.md 7).
        named = event.document.get("object")
        details = {"externalId": named.get("id")} if isinstance(named, dict) else {}
    key = event.envelope.prospect or prospect_key(
        details.get("externalId"), details.get("platform"), details.get("platformId")
    )
    return Prospect(key or "", details)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
