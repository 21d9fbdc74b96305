"""Owners in Salesforce are those in Inbox, whatever Salesforce answers: on a mock that holds requests to its rules."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from tests.handler_kit import loaded
from tests.salesforce_mock import AFTER, CLIENT, CUT, SECRET, Answer, Asked, Salesforce, errors, failure, running
from worker import outgoing, salesforce_api
from worker.core.failures import classify
from worker.errors import ConfigurationError
from worker.salesforce_api import MOST, PAUSE_CONCURRENT, PAUSE_TOTAL, TOKEN_LIFE, LimitReached, literal
from worker.testing import change, run, run_to_end

ADA, BEN = "ada@example.com", "ben@example.com"
MEMBERS = f"ada={ADA},ben=Ben@example.com,zoe=zoe@example.com"


@pytest.fixture
def org() -> Iterator[Salesforce]:
    with running(Salesforce()) as found:
        found.user(1, ADA)
        found.user(2, BEN)
        yield found
        assert found.wrong == []


@contextmanager
def handling(org: Salesforce, **variables: str) -> Iterator[ModuleType]:
    settings = {"URL": org.url, "CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET} | variables
    environment = {f"HANDOFF_SALESFORCE_{name}": value for name, value in settings.items() if value}

    def without_tls(name: str, **more: Any) -> httpx.AsyncClient:
        return outgoing.client(name, verify=False, **more)  # spares each test the reading of certificates

    with (
        loaded("salesforce", HANDOFF_MEMBERS=MEMBERS, **environment) as module,
        patch.object(salesforce_api, "client", without_tls),
    ):
        yield module


@pytest.fixture
def salesforce(org: Salesforce) -> Iterator[ModuleType]:
    with handling(org) as module:
        yield module


def once(answer: Answer, method: str = "PATCH") -> Callable[[Asked], Answer | None]:
    return lambda asked: answer if asked.method == method else None


def user(org: Salesforce, email: str) -> str:
    return next(key for key, each in org.users.items() if each["Email"] == email and each["IsActive"])


# --- what is written --------------------------------------------------------------------------------------------------


def test_owners_follow_in_one_request_and_new_leads_are_made(org: Salesforce, salesforce: ModuleType) -> None:
    org.record("p1", OwnerId="someone", LastName="Kept")
    org.record("p2", OwnerId="someone", LastName="Kept")
    outcomes = run(
        "salesforce",
        [
            change("ada", prospect="p1", previous="ben"),
            change("ben", prospect="p2"),
            change("ada", prospect="p3", profile={"displayName": "  Grace\nHopper "}),
        ],
    )
    assert [each.kind for each in outcomes] == ["done"] * 3
    assert org.owners() == {"p1": user(org, ADA), "p2": user(org, BEN), "p3": user(org, ADA)}
    names = [(each["LastName"], each.get("Company")) for each in org.records.values()]
    assert names == [("Kept", None), ("Kept", None), ("Grace Hopper", "[not provided]")]
    assert [asked.path for asked in org.saves()] == [
        "/services/data/v62.0/composite/sobjects",
        "/services/data/v62.0/composite/sobjects/Lead/Inbox_Prospect_Id__c",
    ]


def test_users_are_asked_for_once_and_then_remembered(org: Salesforce, salesforce: ModuleType) -> None:
    for number in range(3):
        run("salesforce", change("ada", prospect=f"p{number}"))
    assert len(org.queries("User")) == 1
    assert len(org.logins) == 1


def test_a_name_is_never_missing_and_never_too_long(org: Salesforce, salesforce: ModuleType) -> None:
    run("salesforce", change("ada", prospect="p1", profile={"displayName": None, "username": None, "handle": None}))
    run("salesforce", change("ada", prospect="p2", profile={"displayName": "x" * 200}))
    assert [each["LastName"] for each in org.records.values()] == ["p1", "x" * 80]


def test_fields_are_written_as_text_and_null_clears(org: Salesforce) -> None:
    org.record("p1", Description="old", LastName="Kept")
    fields = "Description=notes,Tags__c=tags,Score__c=valuation,Website=link"
    more = {"LINK": "https://inbox.test/{prospect}", "CREATE_FIELDS": "Description=handle"}
    with handling(org, FIELDS=fields, **more):
        run("salesforce", change("ada", prospect="p1", notes=None, tags=["a", "b"], valuation=1200.0))
    found = next(iter(org.records.values()))
    assert found["Description"] is None
    assert (found["Tags__c"], found["Score__c"], found["Website"]) == ("a;b", "1200", "https://inbox.test/p1")
    assert found["LastName"] == "Kept"


def test_a_contact_needs_no_company(org: Salesforce) -> None:
    org.object = "Contact"
    with handling(org, OBJECT="Contact"):
        assert run("salesforce", change("ada", prospect="p1")).kind == "done"
    assert "Company" not in next(iter(org.records.values()))


def test_a_full_call_is_one_request_and_its_queries_fit_into_addresses(org: Salesforce, salesforce: ModuleType) -> None:
    org.page = 30
    keys = [f"'{number}'\\" + "ü" * 12 for number in range(MOST)]
    for key in keys:
        org.record(key)
    outcomes = run("salesforce", [change("ada", prospect=key) for key in keys])
    assert {each.kind for each in outcomes} == {"done"}
    assert len(org.saves()) == 1
    assert set(org.owners().values()) == {user(org, ADA)}
    assert len(org.queries("Lead")) > 2


def test_a_request_never_has_more_records_than_it_may(org: Salesforce) -> None:
    with patch.dict("os.environ", HANDOFF_HANDLER_SALESFORCE_BATCH="500"), handling(org) as module:
        items = [module.Item(change("ada", prospect=f"p{n}"), owner=user(org, ADA)) for n in range(MOST + 1)]
        asyncio.run(module._write(items))
    assert [len(asked.body["records"]) for asked in org.saves()] == [MOST, 1]


def test_of_two_changes_of_a_prospect_the_later_is_written(org: Salesforce, salesforce: ModuleType) -> None:
    first, second = change("ada", prospect="p1", seq=7), change("ben", prospect="p1", seq=8)
    ended = asyncio.run(salesforce.push_owners([second, first], None))
    assert ended[0] is None
    assert type(ended[1]).__name__ == "Discard"
    assert org.owners() == {"p1": user(org, BEN)}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("plain", "'plain'"), ("O'Hara", "'O\\'Hara'"), ("a\\", "'a\\\\'"), ("x') OR (Id != '", "'x\\') OR (Id != \\''")],
)
def test_nothing_in_a_value_ends_its_literal(text: str, escaped: str) -> None:
    assert literal(text) == escaped


def test_a_dry_run_shows_nothing_of_a_person(org: Salesforce) -> None:
    with handling(org, FIELDS="Description=notes") as module:
        shown = json.dumps(module.preview(change("ada", prospect="p1", notes="secret words")))
    assert "secret" not in shown
    assert ADA not in shown
    assert "Description" in shown


# --- policies ---------------------------------------------------------------------------------------------------------


def test_what_nobody_owns_stays_as_it_is(org: Salesforce, salesforce: ModuleType) -> None:
    org.record("p1", OwnerId="someone")
    assert run("salesforce", change(None, prospect="p1", previous="ada")).kind == "discarded"
    assert org.owners() == {"p1": "someone"}
    assert org.asked == []


def test_what_nobody_owns_goes_to_a_queue(org: Salesforce) -> None:
    queue = org.queue(5)
    org.record("p1")
    with handling(org, UNASSIGNED=f"queue_or_user:{queue}"):
        assert run("salesforce", change(None, prospect="p1", previous="ada")).kind == "done"
    assert org.owners() == {"p1": queue}


@pytest.mark.parametrize(("policy", "kind"), [("skip", "discarded"), ("dead_letter", "dead_letter"), ("clear", "done")])
@pytest.mark.parametrize("member", ["zoe", "stranger"])
def test_an_unknown_owner_is_what_the_setting_says(org: Salesforce, policy: str, kind: str, member: str) -> None:
    queue = org.queue(5)
    org.user(3, "zoe@example.com", active=False)
    org.record("p1", OwnerId="someone")
    with handling(org, UNKNOWN_OWNER=policy, UNASSIGNED=f"queue_or_user:{queue}"):
        assert run("salesforce", change(member, prospect="p1")).kind == kind
    assert org.owners() == {"p1": queue if policy == "clear" else "someone"}


def test_of_several_users_with_an_e_mail_the_one_who_logs_in_with_it_owns(org: Salesforce) -> None:
    org.user(3, ADA)
    with handling(org):
        assert run("salesforce", change("ada")).kind == "discarded"
    named = org.user(4, ADA, username="Ada@Example.com")
    with handling(org):
        assert run("salesforce", change("ada", prospect="p1")).kind == "done"
    assert org.owners() == {"p1": named}


@pytest.mark.parametrize(("policy", "kind"), [("skip", "discarded"), ("dead_letter", "dead_letter")])
def test_a_missing_record_is_what_the_setting_says(org: Salesforce, policy: str, kind: str) -> None:
    with handling(org, MISSING_RECORD=policy):
        assert run("salesforce", change("ada", prospect="p1")).kind == kind
    assert org.records == {}


def test_several_records_of_a_prospect_are_for_a_person(org: Salesforce, salesforce: ModuleType) -> None:
    org.record("p1")
    org.record("p1")
    assert run("salesforce", change("ada", prospect="p1")).kind == "dead_letter"


def test_no_record_is_made_for_what_nobody_owns(org: Salesforce) -> None:
    with handling(org, UNASSIGNED=f"queue_or_user:{org.queue(5)}"):
        assert run("salesforce", change(None, prospect="p1", previous="ada")).kind == "discarded"
    assert org.records == {}


def test_a_record_that_has_its_owner_is_written_only_for_its_fields(org: Salesforce) -> None:
    org.record("p1", OwnerId=user(org, ADA))
    with handling(org):
        assert run("salesforce", change("ada", prospect="p1")).kind == "done"
    assert org.saves() == []
    with handling(org, FIELDS="Website=link", LINK="https://inbox.test"):
        assert run("salesforce", change("ada", prospect="p1")).kind == "done"
    assert len(org.saves()) == 1


# --- records that are refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNABLE_TO_LOCK_ROW", "retry"),
        ("SERVER_UNAVAILABLE", "retry"),
        ("REQUIRED_FIELD_MISSING", "dead_letter"),
        ("INVALID_FIELD", "dead_letter"),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "dead_letter"),
        ("DUPLICATES_DETECTED", "dead_letter"),
        ("A_CODE_OF_NEXT_YEAR", "dead_letter"),
        ("CANNOT_UPDATE_CONVERTED_LEAD", "discarded"),
    ],
)
def test_one_refused_record_is_judged_by_its_code_and_takes_no_other_with_it(
    org: Salesforce, salesforce: ModuleType, code: str, kind: str
) -> None:
    org.record("p1")
    org.refusals["p1"] = [failure(code, "why", "Company")]
    outcomes = run("salesforce", [change("ada", prospect="p1"), change("ben", prospect="p2")])
    assert [each.kind for each in outcomes] == [kind, "done"]
    assert len(org.saves()) == 2
    assert org.owners()["p2"] == user(org, BEN)
    if kind == "dead_letter":
        assert f"[{code}] Company why" in str(outcomes[0].text)


def test_a_locked_record_is_written_in_the_end(org: Salesforce, salesforce: ModuleType) -> None:
    org.refusals["p1"] = [failure("UNABLE_TO_LOCK_ROW")] * 3
    journey = run_to_end("salesforce", change("ada", prospect="p1"))
    assert (journey.kind, len(journey.attempts)) == ("done", 4)


def test_a_trigger_that_met_a_locked_row_is_tried_again(org: Salesforce, salesforce: ModuleType) -> None:
    why = "execution of AfterUpdate caused by: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access"
    org.refusals["p1"] = [failure("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", why)]
    assert run("salesforce", change("ada", prospect="p1")).kind == "retry"


def test_what_is_somebody_s_data_is_not_in_a_dead_letter_s_text(org: Salesforce, salesforce: ModuleType) -> None:
    org.refusals["p1"] = [failure("STRING_TOO_LONG", "Grace Hopper: grace@navy.example is too long", "LastName")]
    found = run("salesforce", change("ada", prospect="p1", profile={"displayName": "Grace Hopper"}))
    assert "[STRING_TOO_LONG] LastName" in str(found.text)
    assert "Grace" not in str(found.text)
    assert "grace@" not in str(found.text)


def test_an_owner_who_is_gone_is_looked_up_anew(org: Salesforce, salesforce: ModuleType) -> None:
    run("salesforce", change("ada", prospect="p1"))
    del org.users[user(org, ADA)]
    new = org.user(9, ADA)
    assert run("salesforce", change("ada", prospect="p2")).kind == "done"
    assert org.owners()["p2"] == new


def test_an_owner_who_left_is_an_unknown_one(org: Salesforce, salesforce: ModuleType) -> None:
    run("salesforce", change("ada", prospect="p1"))
    org.users[user(org, ADA)]["IsActive"] = False
    assert run("salesforce", change("ada", prospect="p2", previous="ben")).kind == "discarded"
    assert org.owners().keys() == {"p1"}


def test_a_record_that_is_deleted_meanwhile_is_made_anew(org: Salesforce, salesforce: ModuleType) -> None:
    org.record("p1")

    def deleted(asked: Asked) -> Answer | None:
        return org.records.clear() if asked.method == "PATCH" else None

    org.troubles.append(deleted)
    assert run("salesforce", change("ada", prospect="p1")).kind == "done"
    assert len(org.saves()) == 2
    assert org.owners() == {"p1": user(org, ADA)}
    assert next(iter(org.records.values()))["LastName"]


def test_what_stays_gone_is_a_dead_letter_after_the_second_look(org: Salesforce) -> None:
    gone = "00G000000000099AAA"
    org.record("p1")
    with handling(org, UNASSIGNED=f"queue_or_user:{gone}"):
        found = run("salesforce", change(None, prospect="p1", previous="ada"))
    assert found.kind == "dead_letter"
    assert "[INVALID_CROSS_REFERENCE_KEY] OwnerId" in str(found.text)
    assert len(org.saves()) == 2


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_that_ends_in_the_middle_is_renewed_once(org: Salesforce, salesforce: ModuleType) -> None:
    run("salesforce", change("ada", prospect="p0"))
    org.troubles.append(once(errors(401, "INVALID_SESSION_ID")))
    assert run("salesforce", change("ada", prospect="p1")).kind == "done"
    assert len(org.logins) == 2
    assert org.owners()["p1"] == user(org, ADA)


def test_a_token_that_is_never_good_is_an_outage_and_no_loop(org: Salesforce, salesforce: ModuleType) -> None:
    org.troubles += [once(errors(401, "INVALID_SESSION_ID"), "GET")] * 2
    found = run("salesforce", change("ada"))
    assert found.kind == "retry"
    assert len(org.logins) == 2
    assert "401" in str(found.text)


@pytest.mark.parametrize(("says", "lives"), [(None, TOKEN_LIFE), (3600, 3540.0)])
def test_a_token_is_renewed_before_it_ends(org: Salesforce, says: int | None, lives: float) -> None:
    org.expires_in = says
    now = 1000.0
    with handling(org) as module:
        module.api._clock = lambda: now
        run("salesforce", change("ada", prospect="p1"))
        now += lives - 1
        run("salesforce", change("ada", prospect="p2"))
        assert len(org.logins) == 1
        now += 1
        run("salesforce", change("ada", prospect="p3"))
        assert len(org.logins) == 2
    assert all(asked.headers["Authorization"] != "" for asked in org.asked)


def test_credentials_that_are_refused_are_named_and_cost_no_change(org: Salesforce) -> None:
    with handling(org, CLIENT_SECRET="wrong-secret-text"):
        found = run("salesforce", change("ada"))
    assert found.kind == "retry"
    assert "400" in str(found.text)
    assert "invalid_client" in str(found.text)
    assert "HANDOFF_SALESFORCE_URL and the credentials" in str(found.text)
    assert "wrong-secret-text" not in str(found.text)


def test_an_answer_without_a_token_is_no_login(org: Salesforce, salesforce: ModuleType) -> None:
    org.login_trouble = Answer(200, {"access_token": ""})
    assert run("salesforce", change("ada")).kind == "retry"
    assert org.asked == []


def test_a_redirect_gets_no_token(org: Salesforce, salesforce: ModuleType) -> None:
    with running(Salesforce()) as other:
        there = {"Location": f"{other.url}/services/data/v62.0/query?q=x"}
        org.troubles.append(once(Answer(307, None, there), "GET"))
        assert run("salesforce", change("ada")).kind == "retry"
        assert other.asked == []
        org.login_trouble = Answer(302, None, {"Location": f"{other.url}/services/oauth2/token"})
        org.valid.clear()
        assert run("salesforce", change("ada")).kind == "retry"
        assert other.logins == []


def pair() -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def test_a_private_key_logs_in(org: Salesforce, tmp_path: Path) -> None:
    private, org.public_key = pair()
    path = tmp_path / "key.pem"
    path.write_text(private)
    by_key = {"CLIENT_SECRET": "", "USERNAME": "sync@org"}
    with handling(org, PRIVATE_KEY_FILE=str(path), **by_key):
        assert run("salesforce", change("ada", prospect="p1")).kind == "done"
    with handling(org, PRIVATE_KEY=private.replace("\n", "\\n"), **by_key):
        assert run("salesforce", change("ada", prospect="p2")).kind == "done"
    assert {form["grant_type"] for form in org.logins} == {"urn:ietf:params:oauth:grant-type:jwt-bearer"}
    with handling(org, PRIVATE_KEY_FILE=str(path), AUDIENCE="https://test.salesforce.com", **by_key):
        assert "invalid_grant" in str(run("salesforce", change("ada")).text)


def test_without_pyjwt_one_line_says_what_to_install(org: Salesforce) -> None:
    with (
        patch.dict("sys.modules", {"jwt": None}),
        pytest.raises(ConfigurationError, match=r"_PRIVATE_KEY: needs PyJWT \(pip install handoff\[salesforce\]\)"),
        handling(org, CLIENT_SECRET="", PRIVATE_KEY="x", USERNAME="sync@org"),
    ):
        pass


# --- limits -----------------------------------------------------------------------------------------------------------


def test_at_the_daily_limit_nothing_is_asked_for_a_while(org: Salesforce) -> None:
    org.usage = "api-usage=950/1000"
    now = 1000.0
    with handling(org) as module:
        module.api._clock = lambda: now
        found = run("salesforce", change("ada", prospect="p1"))
        assert (found.kind, len(org.asked)) == ("retry", 1)
        assert found.after == pytest.approx(PAUSE_TOTAL, abs=0.01)
        now += 60
        found = run("salesforce", change("ada", prospect="p1"))
        assert len(org.asked) == 1
        assert found.after == pytest.approx(PAUSE_TOTAL - 60, abs=0.01)
        now += PAUSE_TOTAL
        org.usage = "api-usage=949/1000"
        assert run("salesforce", change("ada", prospect="p1")).kind == "done"


@pytest.mark.parametrize(
    ("message", "after"),
    [
        ("TotalRequests Limit exceeded.", PAUSE_TOTAL),
        ("ConcurrentRequests (Concurrent API) Limit exceeded.", PAUSE_CONCURRENT),
    ],
)
def test_a_refusal_for_the_limit_is_an_outage_with_a_long_pause(
    org: Salesforce, salesforce: ModuleType, message: str, after: float
) -> None:
    org.troubles.append(once(errors(403, "REQUEST_LIMIT_EXCEEDED", message)))
    found = run("salesforce", change("ada", prospect="p1"))
    assert (found.kind, found.after) == ("retry", pytest.approx(after, abs=0.01))
    asked = len(org.asked)
    again = run("salesforce", change("ada", prospect="p1"))
    assert (again.kind == "done") == (after == PAUSE_CONCURRENT)
    assert (len(org.asked) > asked) == (after == PAUSE_CONCURRENT)


def test_a_limit_is_judged_as_the_far_side_s_trouble() -> None:
    found = classify(LimitReached("full", 900.0), 0.0)
    assert (found.outage, found.permanent, found.after) == (True, False, 900.0)


# --- a far side that is not well --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(429, None),
        Answer(503, "<html>maintenance</html>"),
        errors(500, "UNKNOWN_EXCEPTION"),
        CUT,
        AFTER,
        Answer(200, "<html>a proxy's page</html>"),
        Answer(200, {"records": "none"}),
        Answer(200, [{"success": "perhaps"}]),
        Answer(200, []),
        errors(404, "NOT_FOUND"),
        errors(400, "INVALID_FIELD"),
    ],
)
def test_trouble_costs_an_attempt_and_nothing_else(
    org: Salesforce, salesforce: ModuleType, method: str, answer: Answer
) -> None:
    org.record("p1")
    org.troubles.append(once(answer, method))
    journeys = run_to_end("salesforce", [change("ada", prospect="p1"), change("ben", prospect="p2")])
    assert [(each.kind, len(each.attempts)) for each in journeys] == [("done", 2)] * 2
    assert org.owners() == {"p1": user(org, ADA), "p2": user(org, BEN)}
    assert len(org.records) == 2


@pytest.mark.parametrize(
    "answer", [errors(404, "NOT_FOUND"), errors(400, "INVALID_FIELD"), errors(400, "INVALID_TYPE")]
)
def test_what_is_not_set_up_costs_no_change_and_names_the_settings(
    org: Salesforce, salesforce: ModuleType, answer: Answer
) -> None:
    org.troubles.append(once(answer))
    found = run("salesforce", change("ada"))
    assert (found.kind, found.error) == ("retry", "Misconfigured")
    assert "HANDOFF_SALESFORCE_OBJECT, _EXTERNAL_ID_FIELD" in str(found.text)


def test_a_field_that_is_not_there_is_found_by_the_query(org: Salesforce) -> None:
    with handling(org, EXTERNAL_ID_FIELD="Nope__c"):
        assert run("salesforce", change("ada")).error == "Misconfigured"
    assert org.saves() == []


def test_results_that_are_not_one_for_each_record_are_no_answer(org: Salesforce, salesforce: ModuleType) -> None:
    org.troubles.append(once(Answer(200, [{"success": True}, {"success": True}])))
    found = run("salesforce", change("ada"))
    assert (found.kind, found.error) == ("retry", "Garbled")


def test_a_busy_far_side_is_obeyed(org: Salesforce, salesforce: ModuleType) -> None:
    org.troubles.append(once(Answer(503, None, {"Retry-After": "42"})))
    assert run("salesforce", change("ada")).after == 42.0


def test_a_slow_answer_is_given_up(org: Salesforce, salesforce: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def slow(asked: Asked) -> Answer | None:
        over.wait(10)
        return CUT

    org.troubles.append(slow)
    monkeypatch.setattr(salesforce_api, "TIMEOUT", httpx.Timeout(0.05))
    monkeypatch.setattr(
        salesforce_api, "_http", lambda: salesforce_api.client("salesforce-slow", timeout=salesforce_api.TIMEOUT)
    )
    found = run("salesforce", change("ada"))
    over.set()
    assert found.kind == "retry"


def test_a_body_that_one_change_spoils_is_tried_one_by_one(org: Salesforce, salesforce: ModuleType) -> None:
    def spoilt(asked: Asked) -> Answer | None:
        bad = asked.method == "PATCH" and any(
            record.get("Inbox_Prospect_Id__c") == "bad" for record in asked.body["records"]
        )
        return errors(400, "JSON_PARSER_ERROR") if bad else None

    org.troubles += [spoilt] * 5
    journeys = run_to_end("salesforce", [change("ada", prospect="bad"), change("ada", prospect="good")])
    assert [each.kind for each in journeys] == ["dead_letter", "done"]


def test_a_query_that_one_change_spoils_holds_up_no_other(org: Salesforce, salesforce: ModuleType) -> None:
    def spoilt(asked: Asked) -> Answer | None:
        return errors(400, "MALFORMED_QUERY") if "'bad'" in (asked.query or "") else None

    org.troubles += [spoilt] * 5
    journeys = run_to_end("salesforce", [change("ada", prospect="bad"), change("ada", prospect="good")])
    assert [each.kind for each in journeys] == ["dead_letter", "done"]


def test_members_that_can_not_be_asked_for_stop_nobody_else(
    org: Salesforce, salesforce: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(ids: Any) -> Any:
        raise httpx.ConnectError("away")

    monkeypatch.setattr(salesforce.members, "find", away)
    outcomes = run("salesforce", [change("ada", prospect="p1"), change("stranger", prospect="p2")])
    assert [each.kind for each in outcomes] == ["done", "retry"]


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"URL": "http://example.my.salesforce.com"}, "HANDOFF_SALESFORCE_URL: must be an address with https://"),
        ({"URL": "https://example.lightning.force.com/x"}, "must be the My Domain address"),
        ({"CLIENT_ID": ""}, "HANDOFF_SALESFORCE_CLIENT_ID: is not set"),
        ({"CLIENT_SECRET": ""}, "HANDOFF_SALESFORCE_CLIENT_SECRET: is not set"),
        ({"CLIENT_SECRET": "", "PRIVATE_KEY": "x"}, "HANDOFF_SALESFORCE_USERNAME: is not set"),
        ({"CLIENT_SECRET": "", "PRIVATE_KEY": "pem-secret", "USERNAME": "u"}, "_PRIVATE_KEY: is not an RSA"),
        ({"CLIENT_SECRET": "", "PRIVATE_KEY_FILE": "/no/such", "USERNAME": "u"}, "_PRIVATE_KEY_FILE: can't be read"),
        ({"UNASSIGNED": "queue_or_user:00Q000000000001"}, "HANDOFF_SALESFORCE_UNASSIGNED: must be skip"),
        ({"UNKNOWN_OWNER": "clear"}, "HANDOFF_SALESFORCE_UNASSIGNED has to name who gets it"),
        ({"OBJECT": "Contact", "UNASSIGNED": "queue_or_user:00G000000000001"}, "queues own leads"),
        ({"OBJECT": "Account"}, "HANDOFF_SALESFORCE_OBJECT"),
        ({"EXTERNAL_ID_FIELD": "Id FROM Lead --"}, "HANDOFF_SALESFORCE_EXTERNAL_ID_FIELD: must be a field's API name"),
        ({"FIELDS": "OwnerId=member"}, "HANDOFF_SALESFORCE_FIELDS"),
        ({"FIELDS": "Website=link"}, "HANDOFF_SALESFORCE_LINK is needed"),
        ({"API_SHARE": "2"}, "HANDOFF_SALESFORCE_API_SHARE"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(org: Salesforce, variables: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught, handling(org, **variables):
        pass
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pem-secret" not in str(caught.value)
