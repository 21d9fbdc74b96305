"""Reads of a delivery what routing and ordering need, and nothing else.

The body stays the raw bytes that were signed; here it is only looked into: the envelope (PROVIDER.md 2 and 7), and of
the assignment events the prospect's identity and the new owner. msgspec decodes just the declared fields and skips the
rest without making objects of it, which is a third of what parsing all of it costs.

Every version of the provider's format ends in one shape, ``Envelope``; whatever can't be ordered ends in one error,
``Unreadable``, whose ``reason`` is stable and becomes the quarantine's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

MAX_SEQ: Final = (
    2**53 - 1
)  # PROVIDER.md 2: the API's maximum, and the last integer that a sorted set's score holds exactly
MAX_ID: Final = 1024  # characters; the provider's ids have 24. They become parts of keys, so they need a bound
ASSIGNMENTS: Final = frozenset(
    {"prospect.assigneeChanged", "contact.assigneeChanged", "thread.assigned", "thread.unassigned"}
)


class Unreadable(Exception):
    """A delivery that can't be sequenced. ``reason`` is a stable word of the list; ``detail`` never quotes the body.

    ``not_utf8`` · ``not_json`` · ``not_an_event`` (no id, seq or type) · ``bad_id`` · ``bad_seq`` · ``no_team`` ·
    ``bad_assignment`` (an assignment whose prospect or assignee has another shape) · ``team_mismatch`` (the URL's team
    is not the body's) · ``legacy`` (PROVIDER.md 9: no id and no seq to go by)
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class Envelope(NamedTuple):
    """What ordering needs to know of one event, whatever version it came in.

    ``prospect`` is the prospect's key, or None where the event says nothing of an owner; only then does ``assignee``
    (a member id, or None for "nobody") mean anything. ``occurred_ms`` is Unix milliseconds, None when the provider's
    time can't be read.
    """

    id: str
    seq: int
    team: str
    type: str
    occurred_ms: int | None
    prospect: str | None
    assignee: str | None


class _Context(msgspec.Struct, gc=False):
    assigneeId: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815 - the provider's spelling


class _Prospect(msgspec.Struct, gc=False):
    platform: Any = None
    platformId: Any = None  # noqa: N815
    externalId: Any = None  # noqa: N815
    context: _Context | None = None


class _Thread(msgspec.Struct, gc=False):
    assigneeId: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815
    prospect: _Prospect | None = None


class _Data(msgspec.Struct, gc=False):
    prospect: _Prospect | None = None
    thread: _Thread | None = None
    assigneeId: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815


class _Object(msgspec.Struct, gc=False):
    id: str | None = None


class _Delivery(msgspec.Struct, gc=False):
    id: str
    seq: int
    type: str
    teamId: str | None = None  # noqa: N815
    timestamp: str | None = None
    createdAt: str | None = None  # noqa: N815
    apiVersion: Any = None  # noqa: N815
    object: _Object | None = None
    data: _Data | None = None


class _Identity(msgspec.Struct, gc=False):
    """The envelope alone: for events whose ``data`` has a shape of its own."""

    id: str
    seq: int
    type: str
    teamId: str | None = None  # noqa: N815
    timestamp: str | None = None
    createdAt: str | None = None  # noqa: N815


class _Team(msgspec.Struct, gc=False):
    """As little as the front door has to know to choose a partition."""

    teamId: str  # noqa: N815


_decode_delivery = msgspec.json.Decoder(_Delivery).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode
_decode_team = msgspec.json.Decoder(_Team).decode


def team_of(body: bytes, url_team: str | None) -> str | None:
    """The team that a delivery belongs to, for choosing its partition: the URL's, else the body's, else None.

    It never raises: what can't be read is accepted all the same and quarantined by the sequencer.
    """
    if url_team is not None:
        return url_team
    try:
        return _decode_team(body).teamId or None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read(body: bytes, url_team: str | None = None) -> Envelope:
    """The envelope of a delivery. Raises ``Unreadable``, never anything else."""
    try:
        # msgspec passes over the strings it skips without decoding them; a handler would be the first to notice.
        if not body.isascii():
            body.decode()
        delivery = _decode_delivery(body)
    except UnicodeDecodeError:
        raise Unreadable("not_utf8") from None
    except msgspec.ValidationError:
        delivery = _read_identity(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable("not_json", _where(error)) from None

    team = delivery.teamId or None
    if url_team is not None:
        if team is not None and team != url_team:
            raise Unreadable("team_mismatch", "the URL names another team than the body")
        team = url_team
    if not team:
        raise Unreadable("no_team", "a body without teamId needs the team in the URL: /webhooks/inbox/{team_id}")
    if not 0 < len(delivery.id) <= MAX_ID:
        raise Unreadable("bad_id", f"id has {len(delivery.id)} characters, not 1 to {MAX_ID}")
    if len(team) > MAX_ID:
        raise Unreadable("bad_id", f"teamId has {len(team)} characters, not 1 to {MAX_ID}")
    if len(delivery.type) > MAX_ID:  # kept with the event while it is held
        raise Unreadable("not_an_event", f"type has {len(delivery.type)} characters, not up to {MAX_ID}")
    if not 0 <= delivery.seq <= MAX_SEQ:
        raise Unreadable("bad_seq", f"seq is not between 0 and {MAX_SEQ}")

    prospect, assignee = _assignment(delivery) if delivery.type in ASSIGNMENTS else (None, None)
    if prospect is not None and len(prospect) > MAX_ID:
        raise Unreadable("bad_id", f"the prospect's id has {len(prospect)} characters, not 1 to {MAX_ID}")
    if assignee is not None and len(assignee) > MAX_ID:  # kept with the prospect, and with every job of the next change
        raise Unreadable("bad_assignment", f"the assignee's id has {len(assignee)} characters, not 1 to {MAX_ID}")
    return Envelope(
        delivery.id,
        delivery.seq,
        team,
        delivery.type,
        _milliseconds(delivery.timestamp or delivery.createdAt),
        prospect,
        assignee,
    )


def _assignment(delivery: _Delivery) -> tuple[str | None, str | None]:
    """Whose owner the event sets, and to whom: ``(prospect key, assignee)``, or ``(None, None)`` if it says nothing.

    Only the events that mean an assignment count (PROVIDER.md 5). Others may carry an ``assigneeId`` too, but a change
    learnt from them would swallow the real one. An absent ``assigneeId`` is no news; null is "nobody".
    """
    data = delivery.data
    if data is None:
        return None, None
    source: _Prospect | None = None
    assignee: str | msgspec.UnsetType | None = msgspec.UNSET
    match delivery.type:
        case "prospect.assigneeChanged":
            source = data.prospect
            if source is not None and source.context is not None:
                assignee = source.context.assigneeId
        case "thread.assigned" | "thread.unassigned":
            # In v2 a thread's event names no prospect; contact.assigneeChanged makes the change there.
            if data.thread is not None:
                source, assignee = data.thread.prospect, data.thread.assigneeId
        case "contact.assigneeChanged":
            if delivery.object is not None and delivery.object.id and data.assigneeId is not msgspec.UNSET:
                return delivery.object.id, data.assigneeId or None
    if source is None or assignee is msgspec.UNSET:
        return None, None
    key = prospect_key(source.externalId, source.platform, source.platformId)
    return (None, None) if key is None else (key, assignee or None)


def prospect_key(external_id: object, platform: object, platform_id: object) -> str | None:
    """What a prospect is known by: ``externalId``, else ``platform:platformId``; None when it has neither."""
    if isinstance(external_id, str) and external_id:
        return external_id
    if platform_id in (None, ""):
        return None
    return f"{platform}:{platform_id}"


def _read_identity(body: bytes) -> _Delivery:
    """The second look at a body that does not fit: is it an event with unusual data, or no event, and why not?"""
    try:
        identity = _decode_identity(body)
    except msgspec.ValidationError:
        raise _why_not(body) from None
    except (msgspec.DecodeError, RecursionError) as error:  # it is no JSON either, further on than the first look came
        raise Unreadable("not_json", _where(error)) from None
    if identity.type in ASSIGNMENTS:
        raise Unreadable(
            "bad_assignment", "the prospect or its assigneeId has another shape than the provider documents"
        )
    return _Delivery(
        id=identity.id,
        seq=identity.seq,
        type=identity.type,
        teamId=identity.teamId,
        timestamp=identity.timestamp,
        createdAt=identity.createdAt,
    )


def _why_not(body: bytes) -> Unreadable:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable("not_json", _where(error))
    if not isinstance(document, dict):
        return Unreadable("not_an_event", f"the body is a JSON {_kind(document)}, not an object")
    if "event" in document and "id" not in document:
        return Unreadable("legacy", "a legacy webhook has no id and no seq; migrate it in Inbox's settings")
    if not isinstance(document.get("id"), str):
        return Unreadable("bad_id" if "id" in document else "not_an_event", "id is not a text")
    if not isinstance(document.get("seq"), int) or isinstance(document.get("seq"), bool):
        return Unreadable("bad_seq" if "seq" in document else "not_an_event", "seq is not an integer")
    for name in ("type", "teamId", "timestamp", "createdAt"):
        if not isinstance(document.get(name, ""), str | None if name != "type" else str):
            return Unreadable("not_an_event", f"{name} is not a text")
    return Unreadable("not_an_event", "type is missing")


def _kind(document: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(document), "number")


def _where(error: Exception) -> str:
    """The parser's own words, which name a position and never the content."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _milliseconds(timestamp: str | None) -> int | None:
    if timestamp is None:
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    # A time without a zone is read as UTC, which is what the provider writes (PROVIDER.md 2). Whole numbers all the
    # way: through a float, some times come out a millisecond early.
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    milliseconds = since // _MILLISECOND
    # A zone can push it over the edge of the calendar, where no handler could read it back.
    return milliseconds if _FIRST <= milliseconds <= _LAST else None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
