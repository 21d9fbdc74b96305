"""What of a change can be written elsewhere: what the event has, null as null, and nothing that it does not say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from worker.fields import FIELDS, checked, checked_link, values_of
from worker.testing import change

ALL = {name: name for name in FIELDS}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_of_a_prospect_with_everything() -> None:
    profile = {"handle": "@anna", "displayName": "Anna S", "location": None, "websiteUrl": "https://anna.test"}
    about: dict[str, Any] = {"prospect": "p1", "team": "t1", "at": NOON, "valuation": 5, "status": "s1", "tags": ["a"]}
    found = values_of(change("ann", previous="ben", profile=profile, **about), ALL)
    assert found.pop("followers") >= 0
    assert found == {
        "id": "p1",
        "handle": "anna",
        "display_name": "Anna S",
        "profile_url": "https://x.com/p1",
        "location": None,
        "website": "https://anna.test",
        "valuation": 5,
        "status": "s1",
        "tags": ["a"],
        "notes": None,
        "member": "ann",
        "previous_member": "ben",
        "changed_at": "2026-03-01T12:00:00.000Z",
        "team": "t1",
    }


def test_what_an_event_does_not_say_is_left_out() -> None:
    found = values_of(change(None, previous_known=False, version=2, team="t1", prospect="p1"), ALL)
    assert found.keys() == {"id", "member", "changed_at", "team"}
    assert found["member"] is None


def test_a_link_is_made_of_what_there_is() -> None:
    threaded = change("ann", type="thread.assigned", prospect="p1", team="t1")
    thread = values_of(threaded, {"x": "thread"})["x"]
    link = "https://crm.test/{team}/{prospect}/{thread}"
    assert values_of(threaded, {"x": "link"}, link=link) == {"x": f"https://crm.test/t1/p1/{thread}"}
    assert values_of(change("ann"), {"x": "link"}, link=link) == {}
    assert values_of(change("ann", prospect="p1"), {"x": "link"}, link="/{prospect}") == {"x": "/p1"}


@pytest.mark.parametrize("link", ["{nobody}", "{}", "{", "{team.id}"])
def test_a_template_that_can_not_be_filled_in_is_refused(link: str) -> None:
    with pytest.raises(ValueError, match="must be an address"):
        checked_link(link)
    assert checked_link(None) is None


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="each field one of id, handle"):
        checked({"x": "worth"})
    assert checked({"x": "tags"}) == {"x": "tags"}
