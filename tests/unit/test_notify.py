"""Who is told of a change of owner, in what words, and what becomes of a message that does not arrive."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.far_sides import Mail, Web, cut, serving, status
from tests.handler_kit import loaded
from tests.runtime_kit import claimed, outcome, run
from tests.store_kit import change
from worker import AssigneeChange, BatchContext, Event, Retry, messengers
from worker.api import registered
from worker.core.failures import classify
from worker.errors import ConfigurationError
from worker.members import Members
from worker.runtime.calls import ActiveLane
from worker.store.lanes import ClaimedLane
from worker.testing import Handoff, changes

SECRET = "s3cr3t-t0ken"
ADA = {
    "externalId": "p1",
    "platform": "twitter",
    "displayName": "Ada Lovelace",
    "username": "ada",
    "profileUrl": "https://x.com/ada_l",
    "context": {"statusId": "st1", "valuation": 12500, "notes": "likes engines", "assigneeId": "m2"},
}


@pytest.fixture(scope="module")
def notify() -> Iterator[ModuleType]:
    with loaded("notify", HANDOFF_NOTIFY_URLS="json://localhost") as module:
        yield module


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()
    with serving(found.server):
        yield found
        found.let_go.set()


@pytest.fixture
def mail() -> Iterator[Mail]:
    found = Mail()
    with serving(found.server):
        yield found


def changed(
    seq: int = 1, before: str | None = "m1", after: str | None = "m2", *, kind: str | None = None, **prospect: Any
) -> AssigneeChange:
    """Ada, or whoever ``prospect`` makes of her, goes from ``before`` to ``after``."""
    person = ADA | prospect
    person["context"] = ADA["context"] | prospect.get("context", {}) | {"assigneeId": after}
    body = {
        "id": f"evt_{seq}",
        "seq": seq,
        "type": "prospect.assigneeChanged",
        "teamId": "acme",
        "timestamp": "2026-03-01T12:00:00.000Z",
        "data": {"prospect": person},
    }
    said = kind or ("assigned" if before is None else "unassigned" if after is None else "reassigned")
    return AssigneeChange(
        Event(json.dumps(body).encode()), kind=said, previous_assignee_id=before, previous_known=before is not None
    )


class Calls:
    """A notifier as these settings make it, and its calls."""

    def __init__(self, notify: ModuleType, urls: str, people: Members | None = None, **options: Any) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.seconds = 0.0
        self.notifier = notify.Notifier(
            notify.Options(urls=urls, **options), people, now=lambda: self.now, clock=lambda: self.seconds
        )

    def __call__(self, *changes: AssigneeChange) -> list[Retry | None]:
        ctx = BatchContext("notify", [change.event for change in changes], [1] * len(changes))
        return asyncio.run(self.notifier.tell(changes, ctx))


def hook(web: Web, path: str, scheme: str = "json") -> str:
    return f"{scheme}://127.0.0.1:{web.port}{path}"


def directory() -> Members:
    return Members({"m1": "ann@example.com", "m2": "ben+crm@example.com"})


# --- who is told what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "channel", "owner", "previous"),
    [
        (None, "m2", "ben+crm owns it now.", "is yours now.", None),
        ("m1", "m2", "from ann to ben+crm.", "is yours now, from ann.", "went from you to ben+crm."),
        ("m1", None, "was ann's, nobody owns it now.", None, "is not yours any more; nobody owns it now."),
    ],
)
def test_the_channel_the_new_owner_and_the_one_before_are_told(
    notify: ModuleType, web: Web, before: str | None, after: str | None, channel: str, owner: str, previous: str
) -> None:
    routes = f"m1={hook(web, '/ann')}, m2={hook(web, '/ben')}"
    calls = Calls(notify, hook(web, "/all"), directory(), members=routes, statuses="st1=Hot")
    assert calls(changed(1, before, after)) == [None]
    who = "Ada Lovelace (@\u200bada, Hot, 12,500)"
    assert [each["message"] for each in web.at("/all")] == [f"{who}: {channel} https://x.com/ada_l"]
    for path, text in (("/ben", owner), ("/ann", previous)):
        assert [each["message"] for each in web.at(path)] == ([f"{who} {text} https://x.com/ada_l"] if text else [])
    assert web.got[0][1]["title"] == "Changes of owner"


def test_a_member_without_a_route_is_not_told_and_the_channel_is(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), members=f"m9={hook(web, '/other')}")
    assert calls(changed()) == [None]
    assert [path for path, _ in web.got] == ["/all"]
    assert "from m1 to m2" in web.at("/all")[0]["message"]  # nobody said who they are


def test_all_others_are_reached_by_their_address(notify: ModuleType, mail: Mail, web: Web) -> None:
    template = f"mailto://127.0.0.1:{mail.port}?from=handoff@example.com&to={{email}}"
    calls = Calls(notify, "none", directory(), members=f"m1={hook(web, '/ann')},*={template}")
    assert calls(changed()) == [None]
    ((to, text),) = mail.got
    read = email.message_from_string(text, policy=email.policy.default)
    assert to == "ben+crm@example.com"
    assert read["Subject"] == "Changes of owner"
    assert "Ada Lovelace (@ada, 12,500) is yours now, from ann. https://x.com/ada_l" in text.replace("=\r\n", "")
    assert len(web.at("/ann")) == 1


def test_an_address_stays_one_in_a_url(notify: ModuleType, web: Web) -> None:
    members = Members({"m1": "a&b=c@example.com", "m2": "ben+x@example.com"})
    Calls(notify, "none", members, members=f"*={hook(web, '/to')}?-to={{email}}&-id={{id}}")(changed())
    asked = sorted(parse_qsl(path.partition("?")[2]) for path, _ in web.got)
    assert asked == [
        [("to", "a&b=c@example.com"), ("id", "m1")],
        [("to", "ben+x@example.com"), ("id", "m2")],
    ]


def test_without_members_only_a_channel_is_needed_and_without_a_channel_members(notify: ModuleType) -> None:
    with pytest.raises(ConfigurationError, match="HANDOFF_NOTIFY_MEMBERS: is not set"):
        Calls(notify, "none")


def test_a_kind_that_is_switched_off_is_not_told(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), channel_unassigned="none")
    assert calls(changed(after=None), changed(2)) == [None, None]
    assert len(web.got) == 1


def test_late_changes_are_told_and_echoes_never(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"))
    assert calls(changed(1, "m2", "m2", kind="unchanged")) == [None]
    assert web.got == []


# --- words ------------------------------------------------------------------------------------------------------------


def test_texts_are_the_operators(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), channel_reassigned="{{{key}}} {team} {platform}{notes} -> {owner}!")
    calls(changed())
    assert web.at("/all")[0]["message"] == "{p1} acme twitter -> m2!"


def test_notes_are_told_only_if_that_is_said(notify: ModuleType, web: Web) -> None:
    Calls(notify, hook(web, "/all"))(changed())
    Calls(notify, hook(web, "/all"), show_notes=True)(changed())
    silent, open_ = (each["message"] for each in web.at("/all"))
    assert "engines" not in silent
    assert open_.endswith("likes engines")


def test_an_event_that_only_names_the_prospect_is_told_by_its_id(notify: ModuleType, web: Web) -> None:
    nothing = dict.fromkeys(ADA) | {"externalId": "p1", "context": {"statusId": None, "valuation": None}}
    Calls(notify, hook(web, "/all"))(changed(**nothing))
    assert web.at("/all")[0]["message"] == "prospect p1: from m1 to m2."


def test_what_a_prospect_writes_is_no_markup_and_mentions_nobody(notify: ModuleType, web: Web) -> None:
    evil = "@everyone <!channel> <@U1>\n[click](http://evil.test)\u202e\x07" + "x" * 500
    Calls(notify, hook(web, "/all"), channel_reassigned="{name}|{link}")(
        changed(displayName=evil, profileUrl="javascript:alert(1)")
    )
    name, _, link = web.at("/all")[0]["message"].partition("|")
    assert name.startswith("@\u200beveryone <\u200b!channel> <\u200b@\u200bU1> [click]\u200b(http://evil.test) xxx")
    assert len(name) < 220
    assert link == ""


def test_where_text_is_read_as_markdown_it_is_escaped(notify: ModuleType) -> None:
    discord = notify.Messenger("channel 1", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js")
    link = {"link": "https://x.com/a_b/@ada"}
    assert notify._inert(link, discord) == link  # or it would be none
    assert discord.inert("**Ada** _x_ [a](b) `c`") == r"\*\*Ada\*\* \_x\_ \[a\]\(b\) \`c\`"


@pytest.mark.parametrize("text", ["{nmae}", "{name.__class__}", "{name[0]}", "{0}", "{}", "{name!r}", "{name:>9}", "{"])
def test_a_text_with_anything_but_known_fields_stops_the_start(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^HANDOFF_NOTIFY_OWNER_ASSIGNED: (has no field|must not)") as caught,
        loaded("notify", HANDOFF_NOTIFY_URLS="json://localhost", HANDOFF_NOTIFY_OWNER_ASSIGNED=f"so {text}"),
    ):
        pass
    assert "\n" not in str(caught.value)


# --- digest -----------------------------------------------------------------------------------------------------------


def test_a_burst_is_one_message_with_a_line_for_each_prospect(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), channel_assigned="{name}")
    people = [changed(n, None, "m2", externalId=f"p{n}", displayName=f"P{n}") for n in range(100)]
    assert calls(*people) == [None] * 100
    (told,) = web.at("/all")
    assert told["message"].splitlines() == [*(f"P{n}" for n in range(20)), "and 80 more"]


def test_a_recipient_is_told_the_newest_of_a_prospect(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), members=f"m1={hook(web, '/ann')},m2={hook(web, '/ben')}")
    assert calls(changed(1, "m1", "m2"), changed(2, "m2", "m1"), changed(3, "m1", "m3")) == [None] * 3
    assert [len(web.at(path)) for path in ("/all", "/ann", "/ben")] == [1, 1, 1]
    assert "from m1 to m3" in web.at("/all")[0]["message"]
    assert "went from you to m3" in web.at("/ann")[0]["message"]
    assert "went from you to m1" in web.at("/ben")[0]["message"]


def test_its_line_is_where_the_newest_is(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), channel_reassigned="{key} {owner}")
    calls(changed(1), changed(2, externalId="p2"), changed(3, "m2", "m3"))
    assert web.at("/all")[0]["message"].splitlines() == ["p2 m2", "p1 m3"]


# --- quiet hours ------------------------------------------------------------------------------------------------------


def test_in_quiet_hours_all_waits_until_they_end(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), quiet="22:00-07:00", timezone="Europe/Berlin")
    calls.now = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)  # 23:30 in Berlin
    first, second = calls(changed(1), changed(2))
    assert first is not None
    assert second is not None
    assert first.after == second.after == 7.5 * 3600
    assert web.got == []
    calls.now = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
    assert calls(changed(1), changed(2)) == [None, None]


# --- what does not arrive ---------------------------------------------------------------------------------------------


def test_only_who_was_not_reached_is_told_again(notify: ModuleType, web: Web) -> None:
    web.answers["/ben"] = [status(500, b"sorry"), status(500), status(200)]
    calls = Calls(notify, hook(web, "/all"), members=f"m1={hook(web, '/ann')},m2={hook(web, '/ben')}")
    other = changed(2, None, "m1", externalId="p2")
    again, fine = calls(changed(1), other)
    assert fine is None
    assert str(again) == "member m2 (json): answered 500"
    assert again is not None
    assert again.after is None
    (still,) = calls(changed(1))
    for each in (again, still):
        assert each is not None
        assert each.__cause__ is None  # one person's trouble is no outage
    assert calls(changed(1)) == [None]
    assert [len(web.at(path)) for path in ("/all", "/ann", "/ben")] == [1, 1, 3]
    calls(changed(1))  # as a replay does: all have had it, and are told once more
    assert len(web.at("/all")) == 2


@pytest.mark.parametrize(
    ("answer", "why"), [(status(429), "answered 429"), (status(404), "answered 404"), (cut, "not taken")]
)
def test_a_channel_that_takes_nothing_is_an_outage(notify: ModuleType, web: Web, answer: Any, why: str) -> None:
    web.answers["/all"] = [answer]
    first, second = Calls(notify, hook(web, "/all"))(changed(1), changed(2, externalId="p2"))
    assert str(first) == str(second) == f"channel 1 (json): {why}"
    assert first is not None
    assert first.__cause__ is not None
    assert classify(first.__cause__, 0.0).outage


def test_one_of_two_channels_is_no_outage_and_is_told_alone_the_next_time(notify: ModuleType, web: Web) -> None:
    web.answers["/b"] = [status(503), status(200)]
    calls = Calls(notify, f"{hook(web, '/a')} {hook(web, '/b')}")
    (again,) = calls(changed())
    assert str(again) == "channel 2 (json): answered 503"
    assert again is not None
    assert again.__cause__ is None
    assert calls(changed()) == [None]
    assert [len(web.at(path)) for path in ("/a", "/b")] == [1, 2]


def test_one_that_says_nothing_is_given_up_and_holds_up_nobody(notify: ModuleType, web: Web) -> None:
    web.answers["/slow"] = [web.hang]
    (again,) = Calls(notify, f"{hook(web, '/slow')}?rto=0.2,{hook(web, '/b')}")(changed())
    assert str(again) == "channel 1 (json): not taken"
    assert len(web.at("/b")) == 1


def test_one_that_takes_too_long_is_left_behind(notify: ModuleType, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messengers, "LONGEST", 0.2)
    web.answers["/all"] = [web.hang]
    (again,) = Calls(notify, hook(web, "/all"))(changed())
    assert str(again) == "channel 1 (json): no answer in time"


def test_what_could_not_begin_in_time_comes_again(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"))
    letters = calls.notifier._letters

    def slowly(*arguments: Any) -> Any:
        calls.seconds = notify.LAST_START + 1
        return letters(*arguments)

    calls.notifier._letters = slowly
    (again,) = calls(changed())
    assert "not begun in time" in str(again)
    assert web.got == []


def test_a_mail_that_is_refused_is_tried_again(notify: ModuleType, mail: Mail) -> None:
    mail.refuses = "ben+crm@example.com"
    template = f"mailto://127.0.0.1:{mail.port}?from=handoff@example.com&to={{email}}"
    (again,) = Calls(notify, "none", directory(), members=f"*={template}")(changed())
    assert str(again) == "member m2 (mailto): not taken"
    assert [to for to, _ in mail.got] == ["ann@example.com"]


def test_while_the_directory_is_away_the_channel_is_told_and_the_member_later(notify: ModuleType, web: Web) -> None:
    members = Members({"m1": "ann@example.com"}, ["token"], f"http://127.0.0.1:{web.port}")  # answers 501 to a GET
    calls = Calls(notify, hook(web, "/all"), members, members=f"*={hook(web, '/to')}?to={{email}}")
    for _ in range(2):
        (again,) = calls(changed())
        assert str(again) == "member m2: the e-mail is not known yet"
    assert "from ann to m2" in web.at("/all")[0]["message"]
    assert [len(web.at(path)) for path in ("/all", "/to")] == [1, 1]


def test_who_is_in_no_directory_is_not_waited_for(notify: ModuleType, web: Web) -> None:
    calls = Calls(notify, hook(web, "/all"), Members({}), members=f"*={hook(web, '/to')}?to={{email}}")
    assert calls(changed()) == [None]
    assert [path for path, _ in web.got] == ["/all"]


def test_what_is_too_long_for_a_service_is_split(notify: ModuleType) -> None:
    for url, mode in (("json://localhost", "split"), ("json://localhost?overflow=truncate", "truncate")):
        (service,) = notify.Messenger("channel 1", url)._service
        assert service.overflow_mode == mode


def test_without_apprise_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigurationError, match=r"^HANDOFF_NOTIFY_URLS: Apprise is not installed \(pip"):
        messengers._apprise.__wrapped__()


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"URLS": f"json://localhost,nothing://{SECRET}"}, "HANDOFF_NOTIFY_URLS: URL 2 (nothing://) is no URL"),
        ({"URLS": f"slack://{SECRET}"}, "HANDOFF_NOTIFY_URLS: URL 1 (slack://) is no URL that Apprise can use"),
        ({"URLS": SECRET}, "HANDOFF_NOTIFY_URLS: URL 1 (?://) is no URL"),
        ({"URLS": f"jsons://u:{SECRET}@h?verify=no"}, "HANDOFF_NOTIFY_URLS: URL 1 (jsons://) must not switch off"),
        ({"URLS": "json://h", "MEMBERS": f"m1={SECRET}"}, "HANDOFF_NOTIFY_MEMBERS: must be pairs of member id=URL"),
        ({"URLS": "json://h", "MEMBERS": f"m1=a://{SECRET}"}, "HANDOFF_NOTIFY_MEMBERS: member m1 (a://) is no URL"),
        ({"URLS": "json://h", "MEMBERS": f"*=json://h/{SECRET}/{{mail}}"}, "HANDOFF_NOTIFY_MEMBERS: the URL of * has"),
        ({"URLS": "json://h", "MEMBERS": "*=json://h/{email}"}, "HANDOFF_INBOX_TOKEN: is not set"),
        ({"URLS": "json://h", "QUIET": "22-7-3"}, "HANDOFF_NOTIFY_QUIET: must be two times"),
        ({"URLS": "json://h", "QUIET": "07:00-07:00"}, "HANDOFF_NOTIFY_QUIET: must be two times"),
        ({"URLS": "json://h", "TIMEZONE": "Mars/Olympus"}, "HANDOFF_NOTIFY_TIMEZONE: must be a time zone"),
    ],
)
def test_what_cannot_be_used_is_one_line_without_the_secret(
    variables: dict[str, str], said: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(ConfigurationError) as caught,
        loaded("notify", **{f"HANDOFF_NOTIFY_{name}": text for name, text in variables.items()}),
    ):
        pass
    assert str(caught.value).startswith(said)
    shown = capfd.readouterr()
    assert not any(SECRET in text for text in (str(caught.value), shown.out, shown.err, caplog.text))


def test_no_url_and_no_message_is_ever_logged_or_told(
    notify: ModuleType, web: Web, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    web.answers[f"/{SECRET}"] = [status(404, SECRET.encode()), cut]
    calls = Calls(notify, hook(web, f"/{SECRET}"))
    said = [str(calls(changed())[0]) for _ in range(2)]
    shown = capfd.readouterr()
    for text in (*said, caplog.text, shown.out, shown.err, repr(calls.notifier._options)):
        assert SECRET not in text
        assert "Lovelace" not in text
    assert said == ["channel 1 (json): answered 404", "channel 1 (json): not taken"]


def test_a_redirect_is_not_followed(notify: ModuleType, web: Web) -> None:
    def elsewhere(request: Any) -> None:
        request.send_response(307)
        request.send_header("Location", "/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    web.answers["/all"] = [elsewhere]
    (again,) = Calls(notify, hook(web, "/all"))(changed())
    assert str(again) == "channel 1 (json): answered 307"
    assert web.at("/elsewhere") == []


def test_lists_of_urls_keep_the_commas_within_one(notify: ModuleType) -> None:
    options = notify.Options(
        urls="mailto://h?to=a@b.c,d@e.f, slack://x json://h\n",
        members="m1=mailto://h?to=a@b.c,d@e.f,m2=json://u:p=q@h/ *=json://h/?x=1",
    )
    shown = [url.get_secret_value() for url in options.urls]
    assert shown == ["mailto://h?to=a@b.c,d@e.f", "slack://x", "json://h"]
    assert {member: url.get_secret_value() for member, url in options.members.items()} == {
        "m1": "mailto://h?to=a@b.c,d@e.f",
        "m2": "json://u:p=q@h/",
        "*": "json://h/?x=1",
    }


# --- as a handler -----------------------------------------------------------------------------------------------------


def test_in_a_worker_lanes_end_for_themselves_and_share_a_message(web: Web) -> None:
    web.answers["/ben"] = [status(500)]
    routes = {"HANDOFF_NOTIFY_URLS": hook(web, "/all"), "HANDOFF_NOTIFY_MEMBERS": f"m2={hook(web, '/ben')}"}
    with loaded("notify", **routes):
        spec = registered()["notify"]
        owners = {"p1": "m1", "p2": "m1", "p3": "m2"}
        fine, also, bad = (ActiveLane(lane_of(*each), token=1) for each in owners.items())
        run(spec, fine, also, bad)
    assert [outcome(each) for each in (fine, also, bad)] == [(1, 0, None), (1, 0, None), (0, 0, "Retry")]
    assert len(web.at("/all")) == 1
    assert len(web.at("/all")[0]["message"].splitlines()) == 3


def lane_of(prospect: str, owner: str) -> ClaimedLane:
    made = claimed(f"acme:{prospect}", 1)
    body = change("acme", 1, prospect=prospect, assignee=owner, event_id=f"evt_{prospect}")
    return replace(made, jobs=[made.jobs[0]._replace(body=body)])


def test_on_the_whole_road_a_night_and_a_failure_lose_and_double_nothing(web: Web, handoff: Handoff) -> None:
    web.answers["/ben"] = [status(500), status(200)]
    variables = {
        "HANDOFF_NOTIFY_URLS": hook(web, "/all"),
        "HANDOFF_NOTIFY_MEMBERS": f"ben={hook(web, '/ben')}",
        "HANDOFF_NOTIFY_QUIET": "22:00-07:00",
    }
    with loaded("notify", **variables) as module:
        times = iter([datetime(2026, 3, 1, 23, tzinfo=UTC)])
        module.notifier._now = lambda: next(times, datetime(2026, 3, 2, 7, tzinfo=UTC))
        handoff.use(module)
        handoff.deliver(*changes("ada", "ben", prospect="p1"), *changes("cy", prospect="p2"))
        handoff.run()
        found = handoff.status.handlers["notify"]
        assert (found.done + found.conflated, found.dead, found.waiting) == (3, 0, 0)
    (told,) = web.at("/all")
    first, second = told["message"].splitlines()
    assert ": ben owns it now." in first
    assert ": cy owns it now." in second
    assert len(web.at("/ben")) == 2


def test_it_waits_for_a_digest_and_has_attempts_for_some_nights(notify: ModuleType) -> None:
    with loaded("notify", HANDOFF_NOTIFY_URLS="json://localhost"):
        spec = registered()["notify"]
    assert (spec.batch, spec.batch_wait, spec.conflate, spec.order_by, spec.attempts) == (
        100,
        5.0,
        True,
        "prospect",
        20,
    )
    assert spec.timeout > notify.LAST_START + messengers.LONGEST


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_who_would_be_told_what_by_ids(notify: ModuleType) -> None:
    calls = Calls(
        notify,
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general json://localhost",
        directory(),
        members=f"m1=json://h/{SECRET},*=mailtos://u:{SECRET}@example.com?to={{email}}",
        show_notes=True,
    )
    shown = calls.notifier.preview(changed())
    assert [each["to"] for each in shown] == [
        "channel 1 (slack)",
        "channel 2 (json)",
        "member m2 (mailtos)",
        "member m1 (json)",
    ]
    assert shown[0]["text"] == "prospect p1: from m1 to m2."
    assert not any(each in json.dumps(shown) for each in (SECRET, "TIiaj", "Ada", "ada_l", "ann@", "engines", "12,"))
