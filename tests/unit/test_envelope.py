"""Reading a delivery: what is understood, and what is quarantined under which reason."""

import json
from typing import Any

import pytest

from worker.core.envelope import MAX_SEQ, Envelope, Unreadable, read, team_of


def body(**changes: Any) -> bytes:
    event: dict[str, Any] = {
        "id": "e1",
        "seq": 1,
        "teamId": "t1",
        "type": "tag.created",
        "timestamp": "2025-01-15T14:20:00.000Z",
        "version": "1.0",
        "data": {},
    }
    event.update(changes)
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


def assignment(context: Any, **prospect: Any) -> bytes:
    return body(type="prospect.assigneeChanged", data={"prospect": {"externalId": "p1", "context": context} | prospect})


def test_an_event_of_an_unknown_type_is_read_like_any_other() -> None:
    assert read(body(type="nova.exploded", extra={"x": 1})) == Envelope(
        "e1", 1, "t1", "nova.exploded", 1736950800000, None, None
    )


@pytest.mark.parametrize(
    ("delivery", "prospect", "assignee"),
    [
        (assignment({"assigneeId": "m1"}), "p1", "m1"),
        (assignment({"assigneeId": None}), "p1", None),
        (assignment({"assigneeId": "m1"}, externalId=None, platform="twitter", platformId="77"), "twitter:77", "m1"),
        (assignment({}), None, None),  # absent is no news, null is "nobody"
        (assignment(None), None, None),
        (assignment({"assigneeId": "m1"}, externalId=None), None, None),
        (
            body(type="thread.assigned", data={"thread": {"assigneeId": "m2", "prospect": {"externalId": "p2"}}}),
            "p2",
            "m2",
        ),
        (
            body(type="thread.unassigned", data={"thread": {"assigneeId": None, "prospect": {"externalId": "p2"}}}),
            "p2",
            None,
        ),
        (
            body(type="thread.archived", data={"thread": {"assigneeId": "m2", "prospect": {"externalId": "p2"}}}),
            None,
            None,
        ),
    ],
)
def test_only_assignment_events_that_carry_an_assignee_say_who_owns_a_prospect(
    delivery: bytes, prospect: str | None, assignee: str | None
) -> None:
    envelope = read(delivery)
    assert (envelope.prospect, envelope.assignee) == (prospect, assignee)


def test_v2_takes_its_team_from_the_url_and_its_prospect_from_the_object() -> None:
    delivery = json.dumps(
        {
            "id": "e9",
            "seq": 12,
            "type": "contact.assigneeChanged",
            "apiVersion": "2",
            "createdAt": "2026-01-01T00:00:00Z",
            "object": {"type": "contact", "id": "c1", "url": "/contacts/c1"},
            "data": {"assigneeId": None},
        }
    ).encode()
    assert read(delivery, "t7") == Envelope("e9", 12, "t7", "contact.assigneeChanged", 1767225600000, "c1", None)
    with pytest.raises(Unreadable, match="no_team"):
        read(delivery)


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (body()[:-1], "not_json"),
        (b'{"data":0', "not_json"),  # another type first, and then the end
        (b'{"seq":"x","data":' + b"[" * 200_000, "not_json"),
        (b"[" * 200_000, "not_json"),
        (b'{"id":"x","seq":1,"type":"t","teamId":"t","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "not_json"),
        (b'{"id":"\xff\xfe"}', "not_utf8"),
        (b'{"id":"a","seq":1,"type":"t","teamId":"t","ignored":"\xff"}', "not_utf8"),
        (b"[]", "not_an_event"),
        (b"null", "not_an_event"),
        (b"{}", "not_an_event"),
        (body(id=...), "not_an_event"),
        (body(id=""), "bad_id"),
        (body(id=7), "bad_id"),
        (body(id="x" * 10_000), "bad_id"),
        (body(teamId="x" * 10_000), "bad_id"),
        (body(seq=-1), "bad_seq"),
        (body(seq=1.5), "bad_seq"),
        (body(seq="1"), "bad_seq"),
        (body(seq=True), "bad_seq"),
        (body(seq=None), "bad_seq"),
        (body(seq=MAX_SEQ + 1), "bad_seq"),
        (body(seq=10**30), "bad_seq"),
        (body(type=...), "not_an_event"),
        (body(type=5), "not_an_event"),
        (body(type="x" * 5000), "not_an_event"),
        (body(teamId=...), "no_team"),
        (body(teamId=""), "no_team"),
        (body(teamId=5), "not_an_event"),
        (assignment({"assigneeId": 7}), "bad_assignment"),
        (assignment("none"), "bad_assignment"),
        (assignment({"assigneeId": "x" * 5000}), "bad_assignment"),
        (assignment({"assigneeId": "m"}, externalId="x" * 5000), "bad_id"),
        (b'{"event":"targetContacted","platform":"twitter","version":"1.0","data":{"team":{"id":"t"}}}', "legacy"),
    ],
)
def test_what_cannot_be_ordered_has_a_reason(delivery: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as raised:
        read(delivery)
    assert raised.value.reason == reason


def test_an_event_with_data_of_a_strange_shape_is_still_an_event() -> None:
    assert read(body(data=[1, 2])).id == "e1"
    assert read(body(data="text")).id == "e1"


def test_a_body_cannot_speak_for_another_team_than_the_url() -> None:
    assert read(body(), "t1").team == "t1"
    with pytest.raises(Unreadable, match="team_mismatch"):
        read(body(), "t2")


@pytest.mark.parametrize("identifier", ["a b", "{p00}", "}{", "\x00", "é", "'; DROP", "a\nb"])
def test_ids_may_hold_anything(identifier: str) -> None:
    envelope = read(body(id=identifier, teamId=identifier))
    assert (envelope.id, envelope.team) == (identifier, identifier)


def test_an_unreadable_time_is_no_reason_to_refuse() -> None:
    assert read(body(timestamp="yesterday")).occurred_ms is None
    assert read(body(timestamp="2025-01-15T14:20:00")).occurred_ms == 1736950800000


@pytest.mark.parametrize(
    ("delivery", "url_team", "team"),
    [
        (body(), None, "t1"),
        (body(), "t9", "t9"),
        (b"not json", None, None),
        (b"not json", "t9", "t9"),
        (body(teamId=5), None, None),
        (b"[" * 200_000, None, None),
        (b'{"teamId":"\xff"}', None, None),
    ],
)
def test_choosing_a_partition_never_fails(delivery: bytes, url_team: str | None, team: str | None) -> None:
    assert team_of(delivery, url_team) == team


@pytest.mark.parametrize(
    ("time", "milliseconds"),
    [
        ("2004-03-13T23:09:32.366Z", 1079219372366),
        ("2038-01-19T06:20:18.818+00:00", 2147494818818),
        ("2038-11-10T10:09:15.344+00:00", 2172996555344),
    ],
)
def test_a_millisecond_is_not_lost_in_a_float(time: str, milliseconds: int) -> None:
    """Through ``timestamp()``, a float, these come out a millisecond early."""
    assert read(body(timestamp=time)).occurred_ms == milliseconds


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_its_zone_pushes_over_the_edge_of_the_calendar_is_unreadable(time: str) -> None:
    """No handler could read it back."""
    assert read(body(timestamp=time)).occurred_ms is None


def test_an_empty_team_is_no_team() -> None:
    with pytest.raises(Unreadable, match="no_team"):
        read(body(teamId=...), "")
