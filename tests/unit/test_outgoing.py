"""HTTP calls of handlers: what an error says, and what it never says."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from worker.core.failures import classify
from worker.outgoing import LONGEST, USER_AGENT, Refused, check, client


def answered(status: int, text: str = "", **headers: str) -> httpx.Response:
    request = httpx.Request("PUT", "https://user:pass@crm.test/owners?token=abcdef123456", headers={"X": "secret-one"})
    return httpx.Response(status, text=text, headers=headers, request=request)


def test_a_success_is_handed_on() -> None:
    response = answered(204)
    assert check(response) is response


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500])
def test_anything_else_is_an_error_with_status_and_what_was_said(status: int) -> None:
    with pytest.raises(Refused) as caught:
        check(answered(status, '{"code": "NO_SUCH_OWNER",\n "message": "no owner 7"}'))
    text = str(caught.value)
    assert text.startswith(
        f'PUT https://crm.test/owners: {status} {{"code": "NO_SUCH_OWNER", "message": "no owner 7"}}'
    )
    assert not any(secret in text for secret in ("pass", "abcdef123456", "secret-one"))


def test_a_long_answer_is_trimmed_and_its_secrets_are_hidden() -> None:
    with pytest.raises(Refused) as caught:
        check(answered(400, "Authorization: Bearer abcdefghijkl token=0123456789 " + "x" * 9999))
    text = str(caught.value)
    assert "abcdefghijkl" not in text
    assert "0123456789" not in text
    assert len(text) < LONGEST + 60


def test_the_default_policy_judges_it() -> None:
    with pytest.raises(Refused) as caught:
        check(answered(429, **{"Retry-After": "7"}))
    failure = classify(caught.value, 0.0)
    assert (failure.after, failure.permanent, failure.outage) == (7.0, False, True)


def test_a_process_has_one_client_of_a_name_for_each_loop() -> None:
    async def two() -> tuple[httpx.AsyncClient, httpx.AsyncClient, httpx.AsyncClient]:
        return client("crm"), client("crm", headers={"X": "ignored, for it exists"}), client("chat")

    first, same, other = asyncio.run(two())
    assert first is same
    assert first is not other
    assert first.headers["User-Agent"] == USER_AGENT
    assert not first.follow_redirects
    assert asyncio.run(two())[0] is not first


def test_a_transport_is_made_once_and_not_for_every_call() -> None:
    made: list[httpx.MockTransport] = []

    def make() -> httpx.MockTransport:
        made.append(httpx.MockTransport(lambda _: httpx.Response(204)))
        return made[-1]

    async def twice() -> list[int]:
        return [(await client("crm", transport=make).get("https://crm.test/")).status_code for _ in range(2)]

    assert asyncio.run(twice()) == [204, 204]
    assert len(made) == 1
