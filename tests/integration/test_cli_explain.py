"""``handoff explain``: one event's life, wherever it is in it."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.cli_kit import Installation, describe
from tests.store_kit import PATIENT, change, to
from worker.core.dispatch import Terms
from worker.ops.explain_view import view
from worker.ops.explaining import Explanation, document, explain
from worker.ops.installed import Installed
from worker.settings import Settings
from worker.store.archive import Archive
from worker.store.installation import announce_handlers
from worker.store.lanes import Action, Attempt
from worker.store.scripts import Scripts

BOTH = to("crm", "mail")


@pytest.fixture
def place(any_server_url: str, prefix: str, tmp_path: Path) -> Installation:
    """Four partitions with an archive."""
    made = Installation(Settings(redis_url=any_server_url, prefix=prefix, partitions=4), tmp_path)
    made.start("crm", "mail")
    return made


def looked(place: Installation, event_id: str, team: str | None = None) -> Explanation:
    found = Installed(place.settings, place.client, Scripts(place.client)).again()
    return explain(found, event_id, team)


def told(place: Installation, event_id: str, team: str | None = None) -> list[dict[str, Any]]:
    """As ``--json`` has it."""
    events: list[dict[str, Any]] = document(looked(place, event_id, team), text=False)["events"]
    return events


def shown(place: Installation, event_id: str, *, text: bool = False) -> str:
    """As people see it."""
    console = Console(width=200, file=StringIO())
    console.print(view(looked(place, event_id), text=text))
    output = console.file
    assert isinstance(output, StringIO)
    return output.getvalue()


def tried(count: int) -> list[Attempt]:
    return [Attempt(number, 1000 * number, "crm.Busy", "a secret") for number in range(1, count + 1)]


def test_a_delivered_event_tells_when_and_how_often_it_was_tried(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="e1"), change("a", 2, assignee="m2", event_id="e2"), route=BOTH)
    place.deliver("a", change("a", 2, assignee="m2", event_id="e2"))
    place.settle("a", done=1)
    place.settle("a", action=Action.RETRY, attempts=1, failed=tried(1))
    place.of("a").expire_claims()
    place.settle("a", done=1)
    place.settle("a", "mail", done=1)
    (event,) = told(place, "e2")
    assert event["verdict"].startswith("It has not reached mail: its lane ")
    assert (event["place"], event["seq"], event["team"], len(event["duplicates"])) == ("released", 2, "a", 1)
    assert event["received"] <= event["released"]
    assert event["change"] == {
        "kind": "reassigned",
        "prospect": "p",
        "previous_assignee_id": "m1",
        "previous_known": True,
        "assignee_id": "m2",
        "stale": False,
    }
    crm, mail = event["handlers"]
    assert (crm["handler"], crm["state"], crm["attempts"]) == ("crm", "done", 2)
    assert event["released"] <= crm["at"]
    assert (mail["handler"], mail["state"], mail["ahead"]) == ("mail", "waiting", 0)


def test_a_job_that_waits_says_behind_what_and_why(place: Installation) -> None:
    place.deliver("a", *(change("a", seq, event_id=f"e{seq}") for seq in range(1, 6)))
    place.settle("a", action=Action.RETRY, attempts=2, delay_ms=599_000, failed=tried(2))
    out = shown(place, "e4")
    assert re.search(
        r"It has not reached crm: the next attempt is in 9m\d+s, 3 jobs behind e1 \(2 attempts failed", out
    )
    assert "e1: attempt 2: crm.Busy" in out
    assert "a secret" not in out
    assert "a secret" in shown(place, "e1", text=True)


def test_a_held_event_says_what_it_waits_for(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="e1"))
    place.deliver("a", change("a", 4, event_id="e4"), change("a", 5, event_id="e5"), policy=PATIENT)
    (event,) = told(place, "e5")
    assert (event["place"], event["held"]["first"], event["held"]["last"]) == ("held", 2, 3)
    assert re.match(r"It is held: numbers are missing between 2 and 3, for (1h|59m(\d+s)?) more", event["verdict"])
    place.deliver("a", change("a", 2, event_id="e2"), change("a", 3, event_id="e3"))
    out = shown(place, "e4")
    assert "numbers from 2 on were missing" in out
    assert "It has not reached crm" in out
    place.deliver("a", change("a", 7, event_id="e7"), policy=PATIENT)
    place.deliver("a", change("a", 6, event_id="e6"))
    assert ": 6 was missing" in shown(place, "e7")


def test_an_unread_and_a_quarantined_event_are_found_too(place: Installation) -> None:
    place.of("a").append(change("a", 1, event_id="e1"))
    assert told(place, "e1")[0]["place"] == "unread"
    place.of("b").append(change("b", 1, event_id="e9"), team="c")
    place.deliver("b")
    (event,) = told(place, "e9")
    assert (event["place"], event["quarantine"][0]["reason"]) == ("quarantined", "team_mismatch")
    assert event["verdict"].startswith("It was set aside, and reaches nobody: ")


def test_a_dead_letter_and_a_blocked_lane_and_a_paused_one(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="e1"), change("a", 2, event_id="e2"), change("a", 3, event_id="e3"))
    place.bury("a")
    assert "It never reached crm: given up, see `handoff dead show" in shown(place, "e1")
    place.settle("a", action=Action.BLOCK, attempts=3, failed=tried(3), error="crm.Rejected")
    out = shown(place, "e3")
    assert "its lane is blocked since" in out
    assert "e2 ran out of attempts (crm.Rejected)" in out
    place.of("a").client.hset(place.of("a").keys.blocked("crm"), "a", '{"why":"paused","at":1,"by":"ann@ops"}')
    assert "its lane is paused by ann@ops (`handoff lanes resume crm a`)" in shown(place, "e3")


def test_what_one_handler_gave_up_is_said_though_another_has_it_yet(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="e1"), route=BOTH)
    place.bury("a")
    (event,) = told(place, "e1")
    assert event["verdict"].startswith("It has not reached mail: ")
    assert "It never reached crm: given up, see `handoff dead show" in event["verdict"]


def test_a_dead_letter_that_was_dropped_or_tried_again(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="e1"), change("a", 2, prospect="q", event_id="e2"))
    place.bury("a")
    place.bury("a")
    first, second = [letter["id"] for letter in place.run("dead", "list", "--oldest-first", "--json").json["dead"]]
    assert place.run("dead", "drop", first).code == 0
    assert "given up, dropped by a person since" in shown(place, "e1")
    assert "given up, and dropped by a person" in shown(place, "e1")
    assert place.run("dead", "retry", second).code == 0
    assert told(place, "e2")[0]["handlers"][0]["state"] == "waiting"


def test_what_the_archive_let_go_is_explained_as_long_as_a_job_waits(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="e1"), route=BOTH)
    place.settle("a", done=1)
    partition = place.of("a")
    Archive(partition.client, partition.scripts, partition.keys, partition.settings).trim(10**15)
    (event,) = told(place, "e1")
    assert [handler["handler"] for handler in event["handlers"]] == ["mail"]
    assert event["change"]["kind"] == "assigned"
    place.settle("a", "mail", done=1)
    assert "Nothing here knows of e1" in shown(place, "e1")


def test_an_event_ordered_by_prospect_is_found_in_its_lane(place: Installation) -> None:
    announce_handlers(place.client, place.settings, [describe("crm", order_by="prospect")])
    place.deliver("a:b", change("a:b", 1, prospect="x:y", event_id="e1"), route=to(Terms("crm", "prospect")))
    (event,) = told(place, "e1")
    assert event["handlers"][0]["lane"] == "a%3Ab:x:y"


def test_two_teams_may_share_an_id(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="same"))
    place.deliver("b", change("b", 1, event_id="same"))
    assert {event["team"] for event in told(place, "same")} == {"a", "b"}
    assert [e["team"] for e in told(place, "same", "b")] == ["b"]


def test_the_command_writes_nothing_and_its_exit_code_says_if_it_found_anything(place: Installation) -> None:
    place.deliver("a", change("a", 1, event_id="e1"), route=BOTH)
    before = place.of("a").dump(without=["bell:crm", "bell:mail", "bell"])
    ran = place.run("explain", "e1", "--json")
    assert (ran.code, ran.json["found"], len(ran.json["events"])) == (0, True, 1)
    ran = place.run("explain", "unheard-of")
    assert (ran.code, ran.out[:25]) == (1, "Nothing here knows of unh")
    assert place.of("a").dump(without=["bell:crm", "bell:mail", "bell"]) == before
