"""The default policy for errors of HTTP and of transport, as a table; errors are real where their library is here."""

from __future__ import annotations

import email.message
import http.client
import io
import socket
import ssl
import urllib.error
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import kombu.exceptions
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from worker import CallTimeout
from worker.core.failures import classify
from worker.core.retry import AFTER_MAX, LEAST, Failure
from worker.core.retry_after import retry_after

NOW = 1_800_000_000.0
HTTP_DATE = format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)


def answered(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://crm.test/owners")
    response = httpx.Response(status, headers={k.replace("_", "-"): v for k, v in headers.items()}, request=request)
    return httpx.HTTPStatusError("no", request=request, response=response)


AGAIN, DEAD, OUTAGE = Failure(), Failure(permanent=True), Failure(outage=True)


@pytest.mark.parametrize(
    ("statuses", "failure"),
    [
        ((408, 425, 429, 500, 501, 502, 503, 504, 507, 529, 599), OUTAGE),
        ((401, 402, 403, 407, 421, 301, 302, 307, 308), OUTAGE),
        ((409, 423, 424), AGAIN),
        ((400, 404, 405, 406, 410, 411, 412, 413, 414, 415, 417, 418, 422, 426, 428, 431, 451, 499), DEAD),
    ],
)
def test_what_a_status_means(statuses: tuple[int, ...], failure: Failure) -> None:
    assert {status: classify(answered(status), NOW) for status in statuses} == dict.fromkeys(statuses, failure)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (429, Failure(after=7.0, outage=True)),
        (503, Failure(after=7.0, outage=True)),
        (500, Failure(after=7.0, outage=True)),
        (403, Failure(after=7.0, outage=True)),
        (413, Failure(after=7.0)),
        (404, Failure(after=7.0)),
        (409, Failure(after=7.0)),
    ],
)
def test_retry_after_is_obeyed_whatever_the_status(status: int, failure: Failure) -> None:
    assert classify(answered(status, retry_after="7"), NOW) == failure


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("0.001", LEAST),
        ("86401", AFTER_MAX),
        ("9" * 99, AFTER_MAX),
        (HTTP_DATE, 90.0),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90.0),
        ("Fri Jan 15 08:01:30 2027", 90.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", AFTER_MAX),
        # What says nothing:
        *((text, None) for text in ("", "0", "0.0", "-1", "-0", "1e999", "1e3", "nan", "inf", "+5", "soon", "5, 6")),
        *(
            (text, None)
            for text in ("٣", "0x10", "9" * 101, "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 2026", "\x00")
        ),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Mon, 01 Jan 0000 00:00:00 GMT", None),
    ],
)
def test_the_ways_to_say_when(text: str, delay: float | None) -> None:
    assert retry_after({"Retry-After": text}, NOW) == delay


def test_a_date_is_relative_to_the_answers_own() -> None:
    """The far side's clock is its own."""
    sent = format_datetime(datetime.fromtimestamp(NOW + 60, UTC), usegmt=True)
    assert retry_after({"retry-after": HTTP_DATE, "date": sent}, NOW) == 30.0
    assert retry_after({"retry-after": HTTP_DATE, "date": "whenever"}, NOW) == 90.0


@pytest.mark.parametrize(
    "headers",
    [
        {"RETRY-AFTER": "7"},
        {b"Retry-After": b"7"},
        [("Date", "x"), ("retry-after", "7")],
        {"retry-after": ["7", "9"]},
        {"Retry-After": 7},
        httpx.Headers({"Retry-After": "7"}),
    ],
)
def test_headers_of_any_shape_are_read(headers: object) -> None:
    assert retry_after(headers, NOW) == 7.0


class Hostile:
    """Refuses everything that it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


@given(st.text() | st.binary() | st.floats() | st.integers() | st.lists(st.text()) | st.none())
def test_no_header_makes_it_raise(value: object) -> None:
    found = retry_after({"Retry-After": value}, NOW)
    assert found is None or LEAST <= found <= AFTER_MAX


def test_no_headers_make_it_raise() -> None:
    unreadable: list[object] = [None, 5, "text", [1, 2], Hostile(), {"Retry-After": Hostile()}, [(Hostile(), "7")]]
    assert [retry_after(headers, NOW) for headers in unreadable] == [None] * len(unreadable)


class RequestsResponse:
    """As in requests: false when it is an error."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code, self.headers = status, headers

    def __bool__(self) -> bool:
        return False


def with_attributes(**attributes: Any) -> Exception:
    error = type("LibraryError", (Exception,), {})()
    for name, value in attributes.items():
        setattr(error, name, value)
    return error  # type: ignore[no-any-return]


class Httplib2Response(dict[str, str]):
    status = 429


def urllib_error(status: int, headers: dict[str, str]) -> urllib.error.HTTPError:
    message = email.message.Message()
    for name, value in headers.items():
        message[name] = value
    return urllib.error.HTTPError("http://crm.test", status, "no", message, io.BytesIO())


@pytest.mark.parametrize(
    "error",
    [
        with_attributes(response=RequestsResponse(429, {"Retry-After": "7"})),
        with_attributes(status=429, headers={"Retry-After": "7"}, response=None),  # aiohttp, urllib3, HubSpot
        with_attributes(http_status=429, headers={"Retry-After": "7"}),  # Stripe
        with_attributes(code=429, headers={"Retry-After": "7"}),
        with_attributes(resp=Httplib2Response({"retry-after": "7"})),  # Google
        with_attributes(
            response={"ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "7"}}}
        ),  # botocore
        urllib_error(429, {"Retry-After": "7"}),
    ],
)
def test_the_answer_is_found_in_errors_of_many_libraries(error: Exception) -> None:
    assert classify(error, NOW) == Failure(after=7.0, outage=True)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("x"),
        httpx.ReadTimeout("x"),
        httpx.PoolTimeout("x"),
        httpx.RemoteProtocolError("x"),
        ConnectionRefusedError(),
        TimeoutError(),
        socket.gaierror(),
        ssl.SSLError(),
        urllib.error.URLError("x"),
        http.client.RemoteDisconnected(),
        http.client.IncompleteRead(b""),
        redis.ConnectionError(),
        redis.TimeoutError(),
        kombu.exceptions.OperationalError(),
        CallTimeout(),
        type("ServerTimeoutError", (type("ClientConnectionError", (Exception,), {}),), {})(),
    ],
)
def test_no_answer_is_the_far_sides_trouble(error: Exception) -> None:
    assert classify(error, NOW) == OUTAGE


@pytest.mark.parametrize(
    "error",
    [
        ValueError("404"),
        KeyError("response"),
        FileNotFoundError(),
        SystemExit(404),
        with_attributes(code=404),
        with_attributes(status="404"),
        with_attributes(status=True),
        with_attributes(status=200, headers={}),
        with_attributes(status=9_999),
        with_attributes(response=Hostile()),
        type(
            "Refusing", (Exception,), {"response": property(lambda self: 1 / 0), "status": property(lambda self: {}[1])}
        )(),
    ],
)
def test_anything_else_is_tried_again(error: BaseException) -> None:
    assert classify(error, NOW) == AGAIN


def chained(outer: BaseException, *causes: BaseException) -> BaseException:
    error = outer
    for cause in causes:
        error.__cause__ = cause
        error = cause
    return outer


def test_an_error_raised_from_another_is_judged_by_it() -> None:
    assert classify(chained(ValueError(), answered(404)), NOW) == DEAD
    assert classify(chained(ValueError(), KeyError(), answered(503, retry_after="7")), NOW) == Failure(
        after=7.0, outage=True
    )
    assert classify(chained(ValueError(), httpx.ConnectError("x")), NOW) == OUTAGE
    assert classify(chained(ConnectionError(), answered(404)), NOW) == DEAD, "an answer says more than none"


def test_what_happened_to_be_handled_meanwhile_is_not_the_cause() -> None:
    error = ValueError()
    error.__context__ = answered(404)
    assert classify(error, NOW) == AGAIN


def test_causes_in_a_circle_end() -> None:
    first, second = ValueError(), KeyError()
    assert classify(chained(first, second, first), NOW) == AGAIN


def test_calls_side_by_side_are_hopeless_together_only() -> None:
    def group(*errors: Exception) -> ExceptionGroup[Exception]:
        return ExceptionGroup("some", errors)

    assert classify(group(answered(404), answered(410)), NOW) == DEAD
    both = group(answered(404), group(answered(429, retry_after="7")), answered(503, retry_after="9"))
    assert classify(both, NOW) == Failure(after=9.0, outage=True)
    assert classify(chained(ValueError(), group(answered(404))), NOW) == DEAD
