"""What a handler is called with: nothing is read before it is asked for, and nothing personal is shown unasked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import worker.core.events
from worker.core.changes import ChangeKind
from worker.core.envelope import Unreadable
from worker.core.events import AssigneeChange, Event, Prospect

PERSON = {
    "externalId": "p1",
    "platform": "twitter",
    "platformId": "1876543210987654321",
    "displayName": "Ada Secret",
    "username": "adasecret",
    "profileUrl": "https://x.com/adasecret",
    "bio": "likes secrets",
    "context": {"assigneeId": "m2", "notes": "call her secretly", "tags": ["t"]},
}


def v1(kind: str = "prospect.assigneeChanged", data: Any = None, **more: Any) -> bytes:
    document = {
        "id": "e1",
        "seq": 7,
        "teamId": "t1",
        "type": kind,
        "timestamp": "2025-01-15T14:20:00.123Z",
        "version": "1.0",
        "data": {"prospect": PERSON} if data is None else data,
    }
    return json.dumps(document | more).encode()


V2 = json.dumps(
    {
        "id": "e2",
        "seq": 8,
        "type": "contact.assigneeChanged",
        "apiVersion": "2",
        "createdAt": "2026-01-01T00:00:00Z",
        "object": {"type": "contact", "id": "c1", "url": "/contacts/c1"},
        "data": {"assigneeId": None},
    }
).encode()


def change(raw: bytes, team: str | None = None, **more: Any) -> AssigneeChange:
    return AssigneeChange(Event(raw, team_id=team), **{"kind": "assigned"} | more)


def test_nothing_is_read_of_an_event_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    real = worker.core.events.read
    monkeypatch.setattr(worker.core.events, "read", lambda *given: reads.append(given) or real(*given))
    event = Event(b"certainly not JSON", team_id="t1", seq=7, late=True)
    made = AssigneeChange(event, kind=ChangeKind.REASSIGNED, previous_assignee_id="m1", previous_known=True)
    assert (made.seq, made.team_id, made.late, made.kind, made.previous_assignee_id) == (
        7,
        "t1",
        True,
        "reassigned",
        "m1",
    )
    assert reads == []
    with pytest.raises(Unreadable):
        _ = made.assignee_id


def test_what_was_read_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    real = worker.core.events.read
    monkeypatch.setattr(worker.core.events, "read", lambda *given: reads.append(given) or real(*given))
    made = change(v1())
    assert (made.event_id, made.assignee_id, made.occurred_at, made.prospect.key) == (
        "e1",
        "m2",
        datetime(2025, 1, 15, 14, 20, 0, 123000, UTC),
        "p1",
    )
    assert len(reads) == 1
    assert made.prospect is made.prospect
    assert made.event.document is made.event.document


def test_a_prospect_is_shown_as_the_event_has_it() -> None:
    prospect = change(v1()).prospect
    assert (prospect.key, prospect.external_id, prospect.platform_id) == ("p1", "p1", "1876543210987654321")
    assert (prospect.username, prospect.display_name) == ("adasecret", "Ada Secret")
    assert prospect.profile_url == "https://x.com/adasecret"
    assert prospect.context["tags"] == ["t"]


def test_a_threads_prospect_is_found_in_the_thread() -> None:
    raw = v1("thread.assigned", {"thread": {"assigneeId": "m3", "prospect": PERSON | {"externalId": None}}})
    made = change(raw)
    assert (made.prospect.key, made.assignee_id) == ("twitter:1876543210987654321", "m3")
    assert made.prospect.external_id is None
    assert made.prospect.username == "adasecret"


def test_the_prospect_shown_is_the_one_whose_owner_was_read() -> None:
    """Whatever else the event carries: by its type, as the sequencer reads it."""
    other = {"externalId": "p9", "username": "other"}
    made = change(v1(data={"prospect": PERSON, "thread": {"prospect": other}}))
    assert (made.prospect.key, made.prospect.username) == ("p1", "adasecret")
    made = change(v1("thread.assigned", {"prospect": other, "thread": {"assigneeId": "m", "prospect": PERSON}}))
    assert (made.prospect.key, made.prospect.username) == ("p1", "adasecret")


def test_v2_names_the_contact_and_the_url_names_the_team() -> None:
    made = change(V2, "t9", kind="unassigned")
    assert (made.prospect.key, made.prospect.external_id, made.assignee_id) == ("c1", "c1", None)
    assert (made.team_id, made.event.team_id, made.seq) == ("t9", "t9", 8)
    assert made.prospect.username is None
    assert made.prospect.context == {}


@pytest.mark.parametrize("data", [{}, None, [], "x", 5])
def test_an_event_of_any_shape_of_data_can_be_asked_for_it(data: Any) -> None:
    raw = json.dumps({"id": "e", "seq": 1, "teamId": "t", "type": "nova.exploded", "data": data}).encode()
    event = Event(raw)
    assert event.data == {}
    assert event.occurred_at is None
    assert AssigneeChange(event, kind="assigned").prospect.key == ""


def test_as_dict_is_plain_json_with_everything_a_far_task_needs() -> None:
    made = change(v1(), kind="reassigned", previous_assignee_id="m1", previous_known=True)
    plain = json.loads(json.dumps(made.as_dict()))
    assert plain.pop("event") == json.loads(v1())
    assert plain == {
        "event_id": "e1",
        "seq": 7,
        "team_id": "t1",
        "prospect": "p1",
        "previous_assignee_id": "m1",
        "previous_known": True,
        "assignee_id": "m2",
        "kind": "reassigned",
        "late": False,
        "stale": False,
        "absorbed": [],
        "occurred_at": "2025-01-15T14:20:00.123000+00:00",
    }
    assert change(V2, "t9").as_dict()["team_id"] == "t9"
    joined = change(v1(), kind="assigned", stale=True, absorbed=("e0", "e 1")).as_dict()
    assert (joined["stale"], joined["absorbed"]) == (True, ["e0", "e 1"])


@pytest.mark.parametrize("zone", ["-14:00", "+14:00", "Z"])
@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59.999", "0001-01-01T00:00:00.000"])
def test_a_time_at_the_edge_of_the_calendar_is_read_or_is_none(moment: str, zone: str) -> None:
    occurred = Event(v1(timestamp=moment + zone)).occurred_at
    assert occurred is None or occurred.year in {1, 9999}
    change(v1(timestamp=moment + zone)).as_dict()


def test_reprs_show_ids_and_no_personal_data() -> None:
    made = change(v1(), kind="reassigned", previous_assignee_id="m1", previous_known=True)
    shown = repr([made, made.event, made.prospect])
    assert "secret" not in shown.lower()
    assert all(part in repr(made) for part in ("'reassigned'", "'m1' -> 'm2'", "'p1'", "'t1'", "seq=7", "'e1'"))
    assert repr(made.event) == "Event('prospect.assigneeChanged', id='e1', team_id='t1', seq=7, late=False)"
    assert repr(Prospect("p1", PERSON)) == "Prospect('p1')"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="stolen"):
        change(v1(), kind="stolen")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "9" * 5000, "-" + "9" * 5000])
def test_one_number_without_bounds_keeps_nobody_from_the_rest(number: str) -> None:
    """JSON allows it, so it is released, and what is called with it must be able to read it."""
    raw = b'{"id":"e","seq":1,"teamId":"t","type":"thread.typing","data":{"threadId":"x","count":%s}}' % number.encode()
    event = Event(raw)
    assert event.data["threadId"] == "x"
    assert abs(event.data["count"]) > 1e300
    assert event.model.data is not None
    assert event.model.id == "e"
