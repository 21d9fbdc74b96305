"""Who a member is: set by hand, listed by Inbox, asked for no more often than need be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from worker import members as module
from worker import outgoing
from worker.errors import ConfigurationError
from worker.members import REFRESH_ALL, REFRESH_UNKNOWN, Member, Members

ANN = {"id": "m1", "userId": "u1", "email": "ann@example.com", "name": "Ann", "role": "owner"}
BEN = {"id": "m2", "userId": "u2", "email": "ben@example.com", "name": None, "role": "user"}


class Inbox:
    """The provider's list, and who asked for it."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], httpx.Response]] = {}
        self.asked: list[str] = []

    def lists(self, *members: dict[str, Any], token: str = "one") -> None:
        self.answers[token] = lambda: httpx.Response(200, json=list(members))

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # as a network does: others go on meanwhile
        assert request.method == "GET"
        assert request.url == "https://inbox.test/v1/members"
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.asked.append(token)
        return self.answers[token]()


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    found = Inbox()
    monkeypatch.setattr(
        module, "client", lambda name: outgoing.client(name, transport=httpx.MockTransport(found.answer))
    )
    return found


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def directory(emails: dict[str, str] | None = None, *tokens: str) -> tuple[Members, Clock]:
    clock = Clock()
    return Members(emails or {}, tokens or ("one",), "https://inbox.test/v1/", clock=clock), clock


def find(members: Members, *ids: str) -> dict[str, str]:
    return {member: found.email for member, found in asyncio.run(members.find(ids)).items()}


def test_those_set_by_hand_need_no_inbox_and_hold_against_it(inbox: Inbox) -> None:
    inbox.lists(ANN, BEN)
    members, _ = directory({"m1": "other@example.com"})
    assert find(members, "m1") == {"m1": "other@example.com"}
    assert inbox.asked == []
    assert find(members, "m1", "m2") == {"m1": "other@example.com", "m2": "ben@example.com"}


def test_the_list_is_asked_for_once(inbox: Inbox) -> None:
    inbox.lists(ANN, BEN)
    members, _ = directory()
    assert asyncio.run(members.find(["m1"])) == {"m1": Member("m1", "ann@example.com", "Ann")}
    assert find(members, "m1", "m2") == {"m1": "ann@example.com", "m2": "ben@example.com"}
    assert inbox.asked == ["one"]


def test_calls_side_by_side_ask_once(inbox: Inbox) -> None:
    inbox.lists(ANN)
    members, _ = directory()

    async def many() -> None:
        await asyncio.gather(*(members.find(["m1"]) for _ in range(5)))

    asyncio.run(many())
    assert inbox.asked == ["one"]


def test_an_unknown_id_is_asked_for_again_after_a_minute_and_not_before(inbox: Inbox) -> None:
    inbox.lists(ANN)
    members, clock = directory()
    assert find(members, "m2") == {}
    inbox.lists(ANN, BEN)
    clock.now += REFRESH_UNKNOWN - 1
    assert find(members, "m2") == {}
    assert len(inbox.asked) == 1
    clock.now += 1
    assert find(members, "m2") == {"m2": "ben@example.com"}


def test_only_who_was_looked_for_and_not_found_is_surely_unknown(inbox: Inbox) -> None:
    inbox.lists(ANN)
    members, clock = directory()
    find(members, "m2")
    assert members.unsure("m2") == 0.0
    clock.now += 20
    assert find(members, "m3") == {}
    assert members.unsure("m3") == REFRESH_UNKNOWN - 20
    assert members.unsure("m1") == 0.0
    clock.now += 40
    find(members, "m3")
    assert members.unsure("m3") == 0.0
    assert Members({"m1": "ann@example.com"}).unsure("m3") == 0.0


def test_an_address_that_changes_is_noticed_within_an_hour(inbox: Inbox) -> None:
    inbox.lists(ANN)
    members, clock = directory()
    find(members, "m1")
    inbox.lists(ANN | {"email": "new@example.com"})
    clock.now += REFRESH_ALL - 1
    assert find(members, "m1") == {"m1": "ann@example.com"}
    clock.now += 1
    assert find(members, "m1") == {"m1": "new@example.com"}


def test_while_inbox_is_away_the_known_stay_known_and_others_are_no_strangers(inbox: Inbox) -> None:
    inbox.lists(ANN)
    members, clock = directory()
    find(members, "m1")
    inbox.answers["one"] = lambda: httpx.Response(503)
    clock.now += REFRESH_ALL
    with pytest.raises(outgoing.Refused, match="503"):
        find(members, "m1", "m2")
    assert members.known(["m1", "m2"]).keys() == {"m1"}
    assert find(members, "m1") == {"m1": "ann@example.com"}


def test_every_team_has_a_token(inbox: Inbox) -> None:
    inbox.lists(ANN)
    inbox.lists(BEN, token="two")
    members, clock = directory(None, "one", "two")
    assert find(members, "m1", "m2") == {"m1": "ann@example.com", "m2": "ben@example.com"}
    inbox.answers["one"] = lambda: httpx.Response(401)
    clock.now += REFRESH_ALL
    assert find(members, "m1", "m2") == {"m1": "ann@example.com", "m2": "ben@example.com"}


@pytest.mark.parametrize("text", ["<html>sign in</html>", '{"members": []}', "[" * 100_000])
def test_what_is_no_list_is_trouble_on_the_way(inbox: Inbox, text: str) -> None:
    inbox.answers["one"] = lambda: httpx.Response(200, text=text)
    members, _ = directory()
    with pytest.raises(outgoing.Garbled, match=r"GET https://inbox.test/v1/members: 200 without a JSON list"):
        find(members, "m1")


def test_members_that_cannot_be_read_are_passed_over(inbox: Inbox) -> None:
    inbox.lists(ANN, {"id": "m2"}, {"email": "x@example.com"}, BEN | {"name": 7})
    inbox.answers["two"] = lambda: httpx.Response(200, json=[None, "m3"])
    members, _ = directory(None, "one", "two")
    assert find(members, "m1", "m2", "m3") == {"m1": "ann@example.com", "m2": "ben@example.com"}


def test_the_settings_name_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_MEMBERS", "m1=ann@example.com, m2=ben@example.com")
    assert find(Members.load(), "m1", "m3") == {"m1": "ann@example.com"}


def test_nobody_to_know_and_nobody_to_ask_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"HANDOFF_INBOX_TOKEN: is not set .*HANDOFF_MEMBERS"):
        Members.load()
    monkeypatch.setenv("HANDOFF_MEMBERS", "m1=Ann")
    with pytest.raises(ConfigurationError, match="HANDOFF_MEMBERS: has no e-mail for member 'm1'"):
        Members.load()
