"""Owners of contacts in HubSpot: the handler against a HubSpot that keeps to HubSpot's own description."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.handler_kit import loaded
from tests.hubspot_mock import CUT, SPEC, TOKEN, Answer, HubSpot, Server, error, part, serving
from tests.runtime_kit import AT_ONCE, process_of
from tests.store_kit import change as delivered
from tests.store_kit import partition_on, to
from worker import AssigneeChange
from worker.api import registered
from worker.core.dispatch import Terms
from worker.errors import ConfigurationError
from worker.runtime.runner import Runner
from worker.testing import Outcome, change, run

Start = Callable[..., Any]
MEMBERS = "ann=ann@example.com,ben=Ben@Example.com,eve=eve@example.com"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def hubspot(server: Server) -> Iterator[HubSpot]:
    account = server.account = HubSpot()
    account.owners = {"11": "ann@example.com", "22": "ben@example.com"}
    yield account
    assert account.wrong == []


@pytest.fixture
def start(server: Server, hubspot: HubSpot) -> Iterator[Start]:
    """Import the handler with these settings (``unknown_owner="clear"``), pointed at the account."""
    with ExitStack() as stack:

        def begin(**settings: str) -> Any:
            given = {"token": TOKEN, "url": server.url} | settings
            variables = {f"HANDOFF_HUBSPOT_{name.upper()}": value for name, value in given.items()}
            return stack.enter_context(loaded("hubspot", HANDOFF_MEMBERS=MEMBERS, **variables))

        yield begin


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.kind for outcome in outcomes]


def push(*changes: AssigneeChange) -> list[Outcome]:
    return run("hubspot", list(changes))


# --- contacts and owners ----------------------------------------------------------------------------------------------


def test_the_contact_of_the_prospect_gets_its_owner(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(inbox_prospect_id="p1", hubspot_owner_id="11")
    hubspot.contact(inbox_prospect_id="p2")
    assert kinds(push(change("ben", prospect="p1"), change("ann", prospect="p2"))) == ["done", "done"]
    assert (hubspot.owner_of("p1"), hubspot.owner_of("p2")) == ("22", "11")
    assert [len(hubspot.calls(path)) for path in ("read", "search", "update", "upsert")] == [1, 0, 1, 0]


def test_nobody_owns_what_is_unassigned(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(inbox_prospect_id="p1", hubspot_owner_id="11")
    assert kinds(push(change(None, previous="ann", prospect="p1"))) == ["done"]
    assert hubspot.owner_of("p1") is None
    assert hubspot.calls("owners") == []


def test_what_is_so_already_is_not_written(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(inbox_prospect_id="p1", hubspot_owner_id="11")
    assert kinds(push(change("ann", prospect="p1"))) == ["done"]
    assert hubspot.calls("update") == []


def test_a_hundred_changes_are_few_requests(hubspot: HubSpot, start: Start) -> None:
    start()
    for number in range(50):
        hubspot.contact(inbox_prospect_id=f"p{number}")
    assert set(kinds(push(*(change("ann", prospect=f"p{number}") for number in range(100))))) == {"done"}
    assert {hubspot.owner_of(f"p{number}") for number in range(100)} == {"11"}
    assert [len(hubspot.calls(path)) for path in ("owners", "read", "update", "upsert")] == [1, 1, 1, 1]
    assert len(hubspot.calls("search")) <= 2


def test_owners_are_remembered(hubspot: HubSpot, start: Start) -> None:
    start()
    for number in range(3):
        push(change("ann", prospect=f"p{number}"))
    assert hubspot.calls("owners") == [{"email": "ann@example.com", "limit": "100", "archived": "false"}]


@pytest.mark.parametrize("stored", ["anna_s", "@Anna_S"])
def test_a_contact_of_the_same_handle_is_taken_and_known_from_then_on(
    hubspot: HubSpot, start: Start, stored: str
) -> None:
    start()
    hubspot.contact(twitterhandle=stored)
    mine = {"profile": {"handle": "@anna_S", "username": "x"}}
    assert kinds(push(change("ann", prospect="p1", **mine))) == ["done"]
    assert len(hubspot.contacts) == 1
    assert hubspot.owner_of("p1") == "11"
    push(change("ben", prospect="p1", **mine))
    assert len(hubspot.calls("search")) == 1
    assert hubspot.owner_of("p1") == "22"


def test_a_contact_of_another_prospect_keeps_its_id(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(twitterhandle="anna", inbox_prospect_id="old")
    assert kinds(push(change("ann", prospect="p1", profile={"handle": "@anna"}))) == ["done"]
    assert hubspot.owner_of("old") == "11"
    assert len(hubspot.contacts) == 1


def test_two_contacts_of_one_handle_are_for_a_person(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(twitterhandle="anna")
    hubspot.contact(twitterhandle="@anna")
    assert kinds(push(change("ann", prospect="p1", profile={"handle": "@anna"}))) == ["dead_letter"]


def test_by_id_only(hubspot: HubSpot, start: Start) -> None:
    start(handle_property="none")
    hubspot.contact(twitterhandle="anna")
    push(change("ann", prospect="p1", profile={"handle": "@anna"}))
    assert len(hubspot.contacts) == 2
    assert hubspot.calls("search") == []


def test_a_new_contact_says_who_it_is(hubspot: HubSpot, start: Start) -> None:
    start()
    assert kinds(push(change("ann", prospect="p1", profile={"handle": "@anna", "displayName": "Anna S"}))) == ["done"]
    [created] = hubspot.contacts.values()
    assert created == {
        "inbox_prospect_id": "p1",
        "hubspot_owner_id": "11",
        "twitterhandle": "anna",
        "firstname": "Anna S",
    }


def test_creating_twice_makes_one(hubspot: HubSpot, start: Start) -> None:
    """As after a crash between HubSpot's answer and our record of it, when the search does not know of it yet."""
    start()
    hubspot.fail("read", lambda asked: Answer(200, hubspot._batch([], []).document))
    hubspot.contact(inbox_prospect_id="p1", hubspot_owner_id="11")
    assert kinds(push(change("ben", prospect="p1"))) == ["done"]
    assert hubspot.owner_of("p1") == "22"
    assert len(hubspot.contacts) == 1


def test_nobody_is_created_for_nobody(hubspot: HubSpot, start: Start) -> None:
    start()
    assert kinds(push(change(None, previous="ann", prospect="p1"))) == ["discarded"]
    assert hubspot.contacts == {}


@pytest.mark.parametrize(("policy", "kind"), [("skip", "discarded"), ("dead_letter", "dead_letter")])
def test_where_no_contact_is_to_be_created(hubspot: HubSpot, start: Start, policy: str, kind: str) -> None:
    start(missing_contact=policy)
    assert kinds(push(change("ann", prospect="p1"))) == [kind]
    assert hubspot.contacts == {}


@pytest.mark.parametrize("member", ["eve", "stranger"])
@pytest.mark.parametrize(
    ("policy", "kind", "owner"), [("skip", "discarded", "11"), ("clear", "done", None), ("dead_letter",) * 2 + ("11",)]
)
def test_an_owner_that_hubspot_does_not_have(
    hubspot: HubSpot, start: Start, member: str, policy: str, kind: str, owner: str | None
) -> None:
    start(unknown_owner=policy)
    hubspot.contact(inbox_prospect_id="p1", hubspot_owner_id="11")
    hubspot.contact(inbox_prospect_id="p2")
    assert kinds(push(change(member, prospect="p1"), change("ben", prospect="p2"))) == [kind, "done"]
    assert (hubspot.owner_of("p1"), hubspot.owner_of("p2")) == (owner, "22")


def test_the_owner_s_property_may_be_another(hubspot: HubSpot, start: Start) -> None:
    start(owner_property="city")
    hubspot.contact(inbox_prospect_id="p1", hubspot_owner_id="99")
    push(change("ann", prospect="p1"))
    assert hubspot.contacts["500"] == {"inbox_prospect_id": "p1", "hubspot_owner_id": "99", "city": "11"}


def test_fields_that_are_configured_are_written_and_what_is_null_is_cleared(hubspot: HubSpot, start: Start) -> None:
    start(fields="deal_value=valuation,city=link", link="https://crm.test/{team}/{prospect}")
    hubspot.contact(inbox_prospect_id="p1")
    push(change("ann", prospect="p1", team="t1", valuation=1500.0))
    assert hubspot.contacts["500"]["deal_value"] == "1500"
    assert hubspot.contacts["500"]["city"] == "https://crm.test/t1/p1"
    push(change("ann", prospect="p1", team="t1", valuation=None))
    assert "deal_value" not in hubspot.contacts["500"]
    push(change("ben", prospect="p1", team="t1", version=2))
    assert hubspot.owner_of("p1") == "22"


# --- several changes of one contact -----------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_of_two_prospects_with_one_contact_the_later_change_holds(hubspot: HubSpot, start: Start, known: bool) -> None:
    start()
    if known:
        hubspot.contact(twitterhandle="anna")
    same = {"profile": {"handle": "@anna"}}
    later, earlier = change("ben", prospect="p2", seq=9, **same), change("ann", prospect="p1", seq=8, **same)
    assert kinds(push(later, earlier)) == ["done", "discarded"]
    assert [each["hubspot_owner_id"] for each in hubspot.contacts.values()] == ["22"]


def test_between_teams_the_time_decides(hubspot: HubSpot, start: Start) -> None:
    start()
    noon, before = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 11, tzinfo=UTC)
    one = change("ben", prospect="p1", team="a", seq=1, at=noon)
    other = change("ann", prospect="p1", team="b", seq=5, at=before, version=2)
    assert kinds(push(one, other)) == ["done", "discarded"]
    assert hubspot.owner_of("p1") == "22"


# --- what HubSpot may answer ------------------------------------------------------------------------------------------


SLOW_DOWN = error(429, "RATE_LIMITS", "You have reached your secondly limit.", policyName="TEN_SECONDLY_ROLLING")
TROUBLES = {
    "429": (SLOW_DOWN, 10.0),
    "retry-after": (Answer(429, SLOW_DOWN.document, {"Retry-After": "7"}), 7.0),
    "500": (error(500, "INTERNAL_ERROR", "sorry"), None),
    "502": (error(502, "BAD_GATEWAY", "sorry"), None),
    "cut": (CUT, None),
    "html": (Answer(200, raw=b"<html>sign in</html>"), None),
    "list": (Answer(200, raw=b"[1]"), None),
    "401": (error(401, "EXPIRED_AUTHENTICATION", "The OAuth token expired"), None),
    "403": (error(403, "MISSING_SCOPES", "This app hasn't been granted all required scopes"), None),
}
PATHS = ["owners", "read", "search", "update", "upsert"]


@pytest.mark.parametrize(
    ("path", "name"), [*[(path, "429") for path in PATHS], *[("update", name) for name in TROUBLES if name != "429"]]
)
def test_trouble_is_tried_again_and_nothing_is_lost(hubspot: HubSpot, start: Start, path: str, name: str) -> None:
    trouble, after = TROUBLES[name]
    start()
    hubspot.contact(inbox_prospect_id="p1")
    changes = [change("ann", prospect="p1"), change("ben", prospect="p2")]
    hubspot.fail(path, *[trouble] * (2 if path == "owners" else 1))
    outcomes = push(*changes)
    assert set(kinds(outcomes)) == {"retry"}
    if after is not None:
        assert {outcome.after for outcome in outcomes} == {after}
    assert not any(TOKEN in outcome.text or len(outcome.text) > 500 for outcome in outcomes)
    assert kinds(push(*changes)) == ["done", "done"]
    assert (hubspot.owner_of("p1"), hubspot.owner_of("p2")) == ("11", "22")


def test_a_daily_limit_is_waited_for_without_asking(hubspot: HubSpot, start: Start) -> None:
    module = start()
    hubspot.fail("owners", error(429, "RATE_LIMITS", "You have reached your daily limit.", policyName="DAILY"))
    [outcome] = push(change("ann"))
    assert (outcome.kind, outcome.after) == ("retry", pytest.approx(3600, abs=5))
    [outcome] = push(change("ann"))
    assert (outcome.kind, outcome.after) == ("retry", pytest.approx(3600, abs=5))
    assert len(hubspot.made) == 1
    module.hubspot.quota._clock = lambda: float("inf")
    assert kinds(push(change("ann"))) == ["done"]


def test_the_last_request_of_a_day_is_noticed(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.headers = {"X-HubSpot-RateLimit-Daily-Remaining": "0"}
    assert kinds(push(change("ann"))) == ["retry"]
    assert len(hubspot.made) == 1


def test_a_used_up_interval_is_waited_for(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.headers = {"X-HubSpot-RateLimit-Remaining": "0", "X-HubSpot-RateLimit-Interval-Milliseconds": "40"}
    began = time.monotonic()
    assert kinds(push(change("ann"))) == ["done"]
    assert time.monotonic() - began >= 0.04 * (len(hubspot.made) - 1)


def test_each_change_has_its_own_end(hubspot: HubSpot, start: Start) -> None:
    start()
    for number in range(4):
        hubspot.contact(inbox_prospect_id=f"p{number}")

    def some(asked: dict[str, Any]) -> Answer:
        by_contact = {each["id"]: each for each in asked["inputs"]}
        errors = [
            part("VALIDATION_ERROR", "no token=abcdef0123456 " + "x" * 999, ids=["501"]),
            part("CONFLICT", "being merged", objectWriteTraceId=[by_contact["502"]["objectWriteTraceId"]]),
        ]
        return hubspot._batch([hubspot._updated(by_contact["500"])], errors)

    hubspot.fail("update", some)
    outcomes = push(*(change("ann", prospect=f"p{number}", team=f"t{number}") for number in range(4)))
    assert kinds(outcomes) == ["done", "dead_letter", "retry", "retry"]
    assert outcomes[1].text.startswith("HubSpot: VALIDATION_ERROR: no token=***")
    assert len(outcomes[1].text) < 400
    assert outcomes[2].text == "HubSpot: CONFLICT: being merged"
    assert "has not said" in outcomes[3].text


def test_an_error_that_names_nobody_kills_nobody(hubspot: HubSpot, start: Start) -> None:
    """Unless there is only one whom it can be about."""
    start()
    hubspot.contact(inbox_prospect_id="p1")
    hubspot.contact(inbox_prospect_id="p2")
    wrong = hubspot._batch([], [part("VALIDATION_ERROR", "wrong")])
    hubspot.fail("update", wrong, wrong)
    both = [change("ann", prospect=f"p{number}", team=f"t{number}") for number in (1, 2)]
    assert kinds(push(*both)) == ["retry", "retry"]
    assert kinds(push(change("ben", prospect="p1"))) == ["dead_letter"]


def test_many_long_handles_are_more_than_one_search(hubspot: HubSpot, start: Start) -> None:
    start()
    names = [f"{'x' * 40}{number}" for number in range(60)]
    for name in names:
        hubspot.contact(twitterhandle=name)
    assert set(kinds(push(*(change("ann", prospect=name, profile={"handle": name}) for name in names)))) == {"done"}
    assert len(hubspot.contacts) == 60
    assert len(hubspot.calls("search")) > 1


def test_a_contact_that_is_gone_meanwhile_is_looked_for_again(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(inbox_prospect_id="p1")
    hubspot.fail("update", lambda asked: hubspot.contacts.clear())
    assert kinds(push(change("ann", prospect="p1"))) == ["retry"]
    assert kinds(push(change("ann", prospect="p1"))) == ["done"]
    assert hubspot.owner_of("p1") == "11"


def test_an_owner_who_has_left_is_asked_for_anew(hubspot: HubSpot, start: Start) -> None:
    start()
    push(change("ann", prospect="p1"))
    del hubspot.owners["11"]
    [outcome] = push(change("ann", prospect="p2"))
    assert (outcome.kind, outcome.after) == ("retry", 1.0)
    hubspot.owners["33"] = "ann@example.com"
    assert kinds(push(change("ann", prospect="p2"))) == ["done"]
    assert hubspot.owner_of("p2") == "33"


def test_a_call_that_is_refused_is_made_for_each_alone(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(inbox_prospect_id="p1")
    hubspot.contact(inbox_prospect_id="p2")
    hubspot.fail("update", error(400, "VALIDATION_ERROR", "Invalid input JSON"))
    outcomes = push(change("ann", prospect="p1"), change("ben", prospect="p2", team="b"))
    assert [(outcome.kind, outcome.counted) for outcome in outcomes] == [("retry", False)] * 2
    asked = len(hubspot.calls("owners"))
    hubspot.fail("update", error(400, "VALIDATION_ERROR", "Invalid input JSON"))
    assert kinds(push(change("ann", prospect="p1"))) == ["dead_letter"]
    assert len(hubspot.calls("owners")) == asked + 1, "its owner may be what was refused"


@pytest.mark.parametrize(
    ("lacks", "settings"),
    [("inbox_prospect_id", {}), ("twitterhandle", {}), ("deal_value", {"fields": "deal_value=valuation"})],
)
def test_what_is_not_set_up_in_hubspot_makes_no_dead_letters(
    hubspot: HubSpot, start: Start, lacks: str, settings: dict[str, str]
) -> None:
    start(**settings)
    hubspot.properties.discard(lacks)
    hubspot.unique.discard(lacks)
    outcomes = push(change("ann", prospect="p1"), change("ben", prospect="p2", team="b"))
    assert {(outcome.kind, outcome.error, outcome.counted) for outcome in outcomes} == {("retry", "NotSetUp", True)}


def test_the_same_in_a_part_of_a_batch(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(inbox_prospect_id="p1")
    parted = [part("VALIDATION_ERROR", "read only", "READ_ONLY_VALUE", ids=["500"])]
    hubspot.fail("update", hubspot._batch([], parted))
    [outcome] = push(change("ann", prospect="p1"))
    assert (outcome.kind, outcome.error) == ("retry", "NotSetUp")


def test_an_event_without_a_prospect_is_for_a_person(hubspot: HubSpot, start: Start) -> None:
    start()
    assert kinds(push(change("ann", prospect="p" * 256), change("ann", prospect="p1", team="b"))) == [
        "dead_letter",
        "done",
    ]


def test_while_inbox_does_not_tell_who_somebody_is_others_go_on(hubspot: HubSpot, start: Start) -> None:
    module = start()
    module.members._tokens = ("one",)
    module.members._url = "http://127.0.0.1:9"
    outcomes = push(change("ann", prospect="p1"), change("stranger", prospect="p2", team="b"))
    assert kinds(outcomes) == ["done", "retry"]
    module.members._asked = module.members._clock()
    [outcome] = push(change("stranger", prospect="p2"))
    assert (outcome.kind, outcome.after) == ("retry", pytest.approx(60, abs=5))


def test_a_hubspot_that_does_not_answer_is_left(hubspot: HubSpot, start: Start) -> None:
    start()
    answered = threading.Event()

    def slow(asked: dict[str, Any]) -> None:
        answered.wait(10)

    hubspot.fail("read", slow)
    [outcome] = run(replace(registered()["hubspot"], timeout=0.1), [change("ann", prospect="p1")])
    answered.set()
    assert (outcome.kind, outcome.error) == ("retry", "CallTimeout")


def test_writes_have_the_same_key_each_time_they_are_tried(hubspot: HubSpot, start: Start) -> None:
    start()
    hubspot.contact(inbox_prospect_id="p1")
    hubspot.fail("update", CUT)
    same = change("ann", prospect="p1")
    assert kinds([*push(same), *push(same)]) == ["retry", "done"]
    push(change("ben", prospect="p1"))
    one, again, other = hubspot.keys
    assert one == again != other


# --- the whole road ---------------------------------------------------------------------------------------------------


def test_from_delivery_to_contact_the_newest_owner_wins(
    hubspot: HubSpot, start: Start, server_url: str, prefix: str
) -> None:
    """Doubled and out of order, by a HubSpot that fails at first: what is there in the end is the newest of each."""
    start()
    spec = replace(registered()["hubspot"], backoff=AT_ONCE, batch_wait=0.0)
    hubspot.contact(inbox_prospect_id="p0", hubspot_owner_id="77")
    bodies = []
    for seq in range(1, 61):
        owner = ("ann", "ben", None)[seq % 3] if seq <= 52 else "ben"
        bodies.append(delivered("a", seq, prospect=f"p{seq % 4}", assignee=owner))
    for at in range(0, 60, 7):
        bodies[at : at + 7] = reversed(bodies[at : at + 7])
    hubspot.fail("update", error(500, "INTERNAL_ERROR", "sorry"))
    hubspot.fail("upsert", CUT)
    with partition_on(server_url, prefix) as partition:
        partition.sequence(*bodies[:30], *bodies[10:], route=to(Terms("hubspot", spec.order_by, spec.conflate)))
        process, _ = process_of(partition, spec)
        for _ in range(20):
            Runner(process, spec, partition.keys.partition).run()
            books = partition.balanced("hubspot").handlers["hubspot"]
            if not books.waiting:
                break
            partition.expire_claims("hubspot")
        assert (books.waiting, books.dead) == (0, 0)
        assert books.conflated > 0
    assert {hubspot.owner_of(f"p{number}") for number in range(4)} == {"22"}
    assert len(hubspot.contacts) == 4


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"fields": "deal_value=worth"}, "HANDOFF_HUBSPOT_FIELDS: must be name=field pairs, each field one of id, "),
        ({"fields": "city=link"}, "HANDOFF_HUBSPOT_LINK"),
        ({"link": "https://{nobody}"}, "HANDOFF_HUBSPOT_LINK: must be an address"),
        ({"missing_contact": "panic"}, "HANDOFF_HUBSPOT_MISSING_CONTACT"),
        ({"id_property": "Inbox Id"}, "HANDOFF_HUBSPOT_ID_PROPERTY"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(start: Start, settings: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)) as caught:
        start(**settings)
    assert "\n" not in str(caught.value)


def test_a_dry_run_shows_ids_only(start: Start) -> None:
    shown = start(fields="deal_value=valuation").preview(change("ann", prospect="p1", valuation=5))
    assert shown == {"contact": {"inbox_prospect_id": "p1"}, "owner": {"member": "ann"}, "writes": ["deal_value"]}


def test_the_scopes_that_readme_asks_for_are_those_of_what_is_called() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    named = set(re.findall(r"`(crm\.objects\.[a-z.]+)`", readme))
    wanted = [each["x-scopes"] for path in SPEC["paths"].values() for each in path.values()]
    assert all(named & set(scopes) for scopes in wanted)
    assert named <= {scope for scopes in wanted for scope in scopes}
