"""Changes posted to a user's URL: what is sent, how it is signed, and what becomes of a change after each answer."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.handler_kit import loaded
from tests.receiver import CERTIFICATE, NAME, Receiver, Request, answer
from tests.store_kit import change
from worker import AssigneeChange, Context, Event
from worker.api import registered
from worker.core.failures import classify
from worker.errors import ConfigurationError
from worker.guarded import public
from worker.ops.logs import WITHHELD, withhold

SECRET, NEWER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
URL = "HANDOFF_WEBHOOK_OUT_URL"


@contextmanager
def webhook(url: str = "https://far-side.test/hook", **more: str) -> Iterator[ModuleType]:
    settings = {"SECRET": SECRET} | more
    variables = {f"HANDOFF_WEBHOOK_OUT_{name}": value for name, value in settings.items()}
    with loaded("webhook", **{URL: url}, **variables) as module:
        yield module


@contextmanager
def posting(far_side: Receiver, path: str = "/hook", **more: str) -> Iterator[ModuleType]:
    with webhook(far_side.url(path=path), **{"ALLOW_HTTP": "1", "ALLOW_PRIVATE": "1"} | more) as module:
        yield module


@pytest.fixture
def far_side() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def change_of(number: int = 1, team: str = "a", **more: Any) -> AssigneeChange:
    return AssigneeChange(Event(change(team, number, pad=50)), kind="assigned", **more)


def post(module: ModuleType, *changes: AssigneeChange, attempt: int = 1) -> None:
    async def each() -> None:
        for one in changes:
            await module.post_change(one, Context("webhook", one.event, attempt))

    asyncio.run(each())


def failure_of(module: ModuleType) -> Any:
    """What the default policy makes of what a call raises, and its text."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        post(module, change_of())
    return classify(caught.value, 0.0), str(caught.value)


def received(request: Request, secret: str = SECRET) -> Any:
    """As the receiver reads it, with the library that README names."""
    return Webhook(secret).verify(request.body, request.headers)


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_receiver_verifies_it_with_the_standards_own_library(far_side: Receiver) -> None:
    with posting(far_side) as module:
        post(module, change_of())
    [request] = far_side.requests
    assert request.line == "POST /hook HTTP/1.1"
    document = received(request)
    assert document.keys() == {"type", "timestamp", "data"}
    assert (document["type"], document["timestamp"]) == ("prospect.assigned", "2026-03-01T12:00:00Z")
    assert (document["data"]["event_id"], document["data"]["assignee_id"]) == ("a-1", "m1")
    assert request.headers["content-type"] == "application/json"
    request.body = request.body.replace(b"m1", b"m2")
    with pytest.raises(WebhookVerificationError):
        received(request)


def test_ids_are_the_same_at_every_attempt_and_another_for_every_change(far_side: Receiver) -> None:
    with posting(far_side) as module:
        post(module, change_of(1), change_of(2))
        post(module, change_of(1), attempt=2)
    ids = [request.headers["webhook-id"] for request in far_side.requests]
    assert ids == ["a:a-1:webhook", "a:a-2:webhook", "a:a-1:webhook"]
    assert ids == [request.headers["idempotency-key"] for request in far_side.requests]
    assert far_side.requests[0].body == far_side.requests[2].body


def test_the_time_is_the_attempts_own(far_side: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with posting(far_side) as module:
        first, second = (module.headers("k", b"{}", now) for now in (1000.9, 2000.0))
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1000", "2000")
    assert first["webhook-signature"] != second["webhook-signature"]


def test_every_secret_signs_while_they_are_changed(far_side: Receiver) -> None:
    with posting(far_side, SECRET=f"{NEWER},{SECRET}") as module:
        post(module, change_of())
    assert received(far_side.requests[0], SECRET) == received(far_side.requests[0], NEWER)


@pytest.mark.parametrize(
    ("key", "said"),
    [("a.b:c:w", "a%2Eb:c:w"), ("é b\r\n:%2E:w", "%C3%A9%20b%0D%0A:%252E:w"), ("\ud800:a:w", "%3F:a:w")],
)
def test_an_id_ends_where_it_should_and_fits_a_header(key: str, said: str) -> None:
    """A full stop in it would let it take over a part of what is signed after it."""
    with webhook() as module:
        assert module.headers(key, b"{}", 0.0)["webhook-id"] == said


def test_the_raw_event_is_sent_if_it_is_asked_for_and_only_then(far_side: Receiver) -> None:
    with posting(far_side) as module:
        post(module, change_of())
    with posting(far_side, INCLUDE="event", LEAVE_OUT="seq,event.data.prospect.bio,event.data.nothing.there") as module:
        post(module, change_of())
        shown = json.dumps(module.preview(change_of()))
    short, full = (received(request)["data"] for request in far_side.requests)
    assert short.keys() == change_of().as_dict().keys() - {"event"}
    assert full.keys() == change_of().as_dict().keys() - {"seq"}
    assert full["event"]["data"]["prospect"].keys() == {"platform", "platformId", "externalId", "context"}
    assert "xxx" not in shown


def test_a_dry_run_shows_host_and_change() -> None:
    with webhook("https://far-side.test/secret-path?key=secret") as module:
        shown = module.preview(change_of())
    assert shown["post"] == "https://far-side.test/"
    assert shown["change"]["event_id"] == "a-1"
    assert WITHHELD not in json.dumps(withhold(None, "info", {"would": shown}))


def test_more_headers_are_sent(far_side: Receiver) -> None:
    with posting(far_side, HEADERS="Authorization=Bearer abc=, X-Of=handoff") as module:
        post(module, change_of())
    assert far_side.requests[0].headers["authorization"] == "Bearer abc="
    assert far_side.requests[0].headers["x-of"] == "handoff"
    assert far_side.requests[0].headers["user-agent"].startswith("handoff/")


def test_a_connection_is_used_again(far_side: Receiver) -> None:
    far_side.script = [answer(200, b"thanks"), answer(400, b"no")]
    with posting(far_side) as module:

        async def three() -> None:
            for number in (1, 2, 3):
                one = change_of(number)
                try:
                    await module.post_change(one, Context("webhook", one.event, 1))
                except module.Refused:
                    assert number == 2

        asyncio.run(three())
    assert (len(far_side.requests), far_side.connections) == (3, 1)


# --- what becomes of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "after", "permanent", "outage"),
    [
        (answer(429, Retry_After="60"), 60, False, True),
        (answer(429), None, False, True),
        (answer(503, Retry_After="60"), 60, False, True),
        (answer(500), None, False, True),
        (answer(502), None, False, True),
        (answer(401), None, False, True),
        (answer(302, Location="http://127.0.0.1:1/"), None, False, True),
        (answer(404), None, False, True),
        (answer(405), None, False, True),
        (answer(410), None, False, True),
        (answer(404, Retry_After="60"), 60, False, False),
        (answer(409), None, False, False),
        (answer(400), None, True, False),
        (answer(422), None, True, False),
        (b"nonsense\r\n\r\n", None, False, True),
        (lambda _connection: None, None, False, True),
    ],
)
def test_answers_are_judged(far_side: Receiver, said: Any, after: Any, permanent: bool, outage: bool) -> None:
    far_side.script = [said]
    with posting(far_side) as module:
        failure, _ = failure_of(module)
    assert (failure.after, failure.permanent, failure.outage) == (after, permanent, outage)
    assert len(far_side.requests) == 1


@pytest.mark.parametrize("said", [answer(200, b"{half"), answer(200, b"<html>"), answer(204), answer(299)])
def test_any_success_is_one_whatever_it_says(far_side: Receiver, said: bytes) -> None:
    far_side.script = [said]
    with posting(far_side) as module:
        post(module, change_of())


def test_a_success_that_never_ends_is_one(far_side: Receiver) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    far_side.script = [far_side.endless(head, b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")]
    with posting(far_side) as module:
        post(module, change_of())


def test_no_answer_in_time_is_an_outage(far_side: Receiver) -> None:
    far_side.script = [far_side.hang]
    with posting(far_side, TIMEOUT="100ms") as module:
        failure, text = failure_of(module)
        assert registered()["webhook"].timeout > module.options.timeout
    assert failure.outage
    assert "hook" not in text


def test_so_is_one_of_which_the_head_comes_in_drops(far_side: Receiver) -> None:
    """Each read is in time, the whole is not."""
    far_side.script = [far_side.endless(b"HTTP/1.1 200 OK\r\nX: ", b"x", pause=0.02)]
    with posting(far_side, TIMEOUT="200ms") as module:
        failure, text = failure_of(module)
    assert failure.outage
    assert text.endswith("no answer in 0.2 s")


def test_an_error_says_status_and_answer_and_not_the_urls_secret(far_side: Receiver) -> None:
    far_side.script = [answer(410, b"nobody is here"), answer(400, b"x" * 100_000)]
    with posting(far_side, path="/secret-path?key=secret-key", HEADERS="Authorization=secret-token") as module:
        gone, long = failure_of(module)[1], failure_of(module)[1]
    assert gone == f"POST {far_side.url(path='/')}: 410 nobody is here"
    assert "secret" not in gone + long
    assert len(long) < 400


# --- where to ---------------------------------------------------------------------------------------------------------


def test_a_name_that_leads_inside_is_an_outage_and_no_call(far_side: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, port, *_, **__: [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]
    )
    with webhook(far_side.url(NAME), ALLOW_HTTP="1") as module:
        failure, text = failure_of(module)
    assert failure.outage
    assert "has no public address" in text
    assert far_side.connections == 0


def test_a_public_one_is_called_by_https(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import guarded

    monkeypatch.setattr(guarded, "public", lambda found: str(found) == "127.0.0.1" or public(found))
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, port, *_, **__: [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with Receiver(tls=True) as far_side, webhook(far_side.url(NAME)) as module:
        post(module, change_of())
        assert received(far_side.requests[0])["data"]["seq"] == 1
        assert far_side.names == [NAME]


def test_a_proxy_is_used_if_it_is_asked_for_and_only_then(far_side: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(path=""))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with posting(far_side) as module:
            post(module, change_of())
        assert (len(far_side.requests), len(proxy.requests)) == (1, 0)
        for asked in ("environment", proxy.url(path="")):
            with webhook("http://far-side.test/hook", ALLOW_HTTP="1", PROXY=asked) as module:
                post(module, change_of())
        assert [request.line for request in proxy.requests] == ["POST http://far-side.test/hook HTTP/1.1"] * 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"URL": "http://far-side.test/"}, f"{URL}: is not https (or set HANDOFF_WEBHOOK_OUT_ALLOW_HTTP=1)"),
        ({"URL": "ftp://far-side.test/"}, f"{URL}: is no URL (https://host/path)"),
        ({"URL": "far-side.test"}, f"{URL}: is no URL (https://host/path)"),
        ({"URL": "https://"}, f"{URL}: is no URL (https://host/path)"),
        ({"URL": "https://1.2.3.4.5:x/"}, f"{URL}: is no URL (https://host/path)"),
        ({"URL": "https://me:secret@far-side.test/"}, f"{URL}: has a user or password in it"),
        ({"URL": "https://10.0.0.1/"}, f"{URL}: is no public address (or set HANDOFF_WEBHOOK_OUT_ALLOW_PRIVATE=1)"),
        ({"URL": "https://[::ffff:127.0.0.1]/"}, f"{URL}: is no public address"),
        ({"SECRET": ""}, "HANDOFF_WEBHOOK_OUT_SECRET: is not set"),
        ({"SECRET": "secret"}, "HANDOFF_WEBHOOK_OUT_SECRET: must be whsec_ and 24 to 64 bytes in base64"),
        ({"SECRET": f"{SECRET},whsec_c2VjcmV0"}, "HANDOFF_WEBHOOK_OUT_SECRET: must be whsec_ and 24"),
        ({"SECRET": "whsec_" + "secret!!" * 5}, "HANDOFF_WEBHOOK_OUT_SECRET: must be whsec_ and 24"),
        ({"LEAVE_OUT": "asignee_id"}, "HANDOFF_WEBHOOK_OUT_LEAVE_OUT: names a field that there is not"),
        ({"LEAVE_OUT": "prospect.bio"}, "HANDOFF_WEBHOOK_OUT_LEAVE_OUT: names a field that there is not"),
        ({"HEADERS": "Webhook-Id=secret"}, "HANDOFF_WEBHOOK_OUT_HEADERS: has a name that the handler itself sends"),
        ({"HEADERS": "X Y=secret"}, "HANDOFF_WEBHOOK_OUT_HEADERS: has what can't be in a header"),
        ({"HEADERS": "X=secret\r\nY: z"}, "HANDOFF_WEBHOOK_OUT_HEADERS: has what can't be in a header"),
        ({"PROXY": "secret:8080"}, "HANDOFF_WEBHOOK_OUT_PROXY: must be http://host:port or environment"),
        ({"TIMEOUT": "0"}, "HANDOFF_WEBHOOK_OUT_TIMEOUT: "),
        ({"INCLUDE": "all"}, "HANDOFF_WEBHOOK_OUT_INCLUDE: "),
    ],
)
def test_a_wrong_setting_stops_the_start_in_one_line(settings: dict[str, str], said: str) -> None:
    settings = dict(settings)
    with (
        pytest.raises(ConfigurationError) as caught,
        webhook(settings.pop("URL", "https://far-side.test/"), **settings),
    ):
        pass
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value).replace("Signing secret", "").replace("values are kept secret", "")


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "standardwebhooks", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'handoff\[webhook\]'"), webhook():
        pass


def test_fields_that_can_be_left_out_are_those_there_are() -> None:
    with webhook() as module:
        assert change_of().as_dict().keys() == module.FIELDS
