"""The provider's events as pydantic models, for handlers that want more of an event than ids.

    event.model.prospect.context.notes

Built when asked for, from the raw body: ordering and delivery never need them (worker.core.envelope reads what does).
``worker.core.models.base`` says how unknown, unexpected, absent and null values are kept apart.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from worker.core.document import slowly
from worker.core.models.base import Wire
from worker.core.models.legacy import LegacyEvent
from worker.core.models.team import AccountLink, Campaign, Member, Status, Tag, Team
from worker.core.models.v1 import Context, Data, EventV1, Message, Prospect, Reaction, Thread
from worker.core.models.v2 import ChangeV2, EventV2, ObjectRef

__all__ = [
    "AccountLink",
    "Campaign",
    "ChangeV2",
    "Context",
    "Data",
    "EventV1",
    "EventV2",
    "LegacyEvent",
    "Member",
    "Message",
    "ObjectRef",
    "Prospect",
    "Reaction",
    "Status",
    "Tag",
    "Team",
    "Thread",
    "Wire",
    "parse",
]


def parse(body: bytes) -> EventV1 | EventV2 | LegacyEvent:
    """The event in a body: v2 where there is an ``apiVersion``, legacy where there is an ``event`` and no ``type``,
    else v1.

    Any JSON object can be read. Raises ``ValueError``, without a word of the body, for anything else.
    """
    try:
        # Not pydantic's own parser: it refuses nesting over 200 levels, which the sequencer has let pass.
        document = slowly(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - one error for one question
    try:
        return _model_for(document).model_validate(document)
    except ValidationError:
        # Fields can't fail, so it is a key that is no Unicode text: half of a surrogate pair (RFC 8259, 8.2).
        raise ValueError("the body is not JSON") from None


def _model_for(document: dict[str, Any]) -> type[EventV1 | EventV2 | LegacyEvent]:
    if "apiVersion" in document:
        return EventV2
    return LegacyEvent if "event" in document and "type" not in document else EventV1
