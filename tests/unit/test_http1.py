"""One connection's requests: in which order they are answered, what is kept of them, and how the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ingress.answers import Answer
from ingress.bodies import DISCARD, WHOLE
from ingress.http1 import Connection
from ingress.parsing import FIELDS, HEAD, PIPELINED
from tests.http1_kit import MAX_BODY, House, Transport, request

ACCEPTED = Answer(202, "accepted")
Scene = Callable[[House, Connection, Transport], None]


def played(scene: Scene) -> None:
    async def within() -> None:
        house = House()
        scene(house, *house.connect())

    asyncio.run(within())


def settle(connection: Connection) -> None:
    """What the connection has asked of the loop."""
    for _ in range(2 * PIPELINED):
        connection._go_on()


@pytest.mark.parametrize("size", [0, 1, WHOLE, WHOLE + 1, MAX_BODY])
@pytest.mark.parametrize("at_a_time", [1_000_000, 7000, 100])
def test_a_body_arrives_as_it_was_sent_in_whatever_parts(size: int, at_a_time: int) -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        body = bytes(range(256)) * (size // 256 + 1)
        data = request("/a", body[:size])
        for at in range(0, len(data), at_a_time):
            connection.data_received(data[at : at + at_a_time])
        assert house.application.asked == [(b"POST", b"/a", body[:size])]
        assert (transport.statuses, transport.ended, house.connections.in_flight) == ([200], "", 0)
        assert house.connections.room.together == 0

    played(scene)


def test_a_body_in_chunks_arrives_too() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/a", b"", "transfer-encoding: chunked"))
        connection.data_received(b"3\r\nabc\r\n")
        assert house.connections.room.together == 3
        connection.data_received(b"2\r\nde\r\n0\r\n\r\n")
        assert house.application.asked == [(b"POST", b"/a", b"abcde")]
        assert house.connections.room.together == 0

    played(scene)


def test_requests_are_answered_in_order_one_at_a_time_and_no_more_is_read_meanwhile() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/later", b"1") + request("/a", b"2") + request("/later", b"3"))
        assert [body for _, _, body in house.application.asked] == [b"1"]
        assert (house.connections.in_flight, transport.reading) == (3, False)
        house.application.later.pop()(ACCEPTED)
        settle(connection)
        assert [body for _, _, body in house.application.asked] == [b"1", b"2", b"3"]
        house.application.later.pop()(ACCEPTED)
        settle(connection)
        assert (transport.statuses, transport.reading) == ([202, 200, 202], True)
        assert house.connections.in_flight == 0

    played(scene)


def test_while_its_answers_are_not_read_no_more_are_made() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.pause_writing()
        connection.data_received(request() * 3)
        settle(connection)
        assert transport.sent == []
        assert not transport.reading
        connection.resume_writing()
        settle(connection)
        assert (transport.statuses, transport.reading) == ([200] * 3, True)

    played(scene)


def test_so_many_requests_are_kept_and_the_connection_ends_after_them() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/later") + request() * 400)
        assert len(connection._ready) == PIPELINED
        house.application.later.pop()(ACCEPTED)
        settle(connection)
        assert (len(transport.sent), transport.ended) == (PIPELINED, "eof")
        assert b"connection: close" in transport.sent[-1]
        assert b"connection: close" not in transport.sent[-2]

    played(scene)


def in_one_line(size: int) -> list[bytes]:
    return [b"POST / HTTP/1.1\r\nx: ", b"a" * size]


@pytest.mark.parametrize(
    "parts",
    [
        in_one_line(2 * HEAD),
        [*in_one_line(1), *[b"a"] * (HEAD + 1)],
        [b"POST /" + b"a" * HEAD + b" HTTP/1.1\r\n\r\n"],
        [request() + b"".join(in_one_line(3 * HEAD))],
        [request("/", b"", *(f"x-{number}: a" for number in range(FIELDS)))],
    ],
    ids=["one part", "many parts", "a target", "after another", "lines"],
)
def test_a_head_has_a_bound(parts: list[bytes]) -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        for part in parts:
            connection.data_received(part)
        settle(connection)
        assert transport.statuses[-1] == 431
        assert transport.ended == "eof"
        connection.data_received(request())
        settle(connection)
        assert transport.statuses[-1] == 431, "nothing after it is read"

    played(scene)


@pytest.mark.parametrize("start", [b"5;", b"3\r\nabc\r\n0\r\nx-trailer: "])
def test_so_has_what_surrounds_chunks(start: bytes) -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/a", b"", "transfer-encoding: chunked") + start)
        fed = 0
        while not transport.ended:
            connection.data_received(b"a" * 1000)
            fed += 1000
            assert fed <= HEAD + 2000
        assert transport.statuses == [400]

    played(scene)


@pytest.mark.parametrize("chunked", [True, False])
def test_too_large_is_read_away_to_a_bound_and_never_kept(chunked: bool) -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        size = MAX_BODY + DISCARD
        line = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
        connection.data_received(request("/a", b"", line) + (b"%x\r\n" % (2 * size) if chunked else b""))
        for _ in range(MAX_BODY // 10_000, size // 10_000):
            connection.data_received(b"x" * 10_000)
            assert house.connections.room.together <= MAX_BODY
        assert transport.sent == []
        while not transport.sent:
            connection.data_received(b"x" * 10_000)
        assert transport.statuses == [413]
        assert transport.ended == ("eof" if chunked else "")
        assert house.connections.room.together == 0

    played(scene)


@pytest.mark.parametrize(("size", "line"), [(MAX_BODY + DISCARD + 1, "x: y"), (MAX_BODY + 1, "expect: 100-continue")])
def test_what_says_that_it_is_far_too_large_is_refused_at_once(size: int, line: str) -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/a", b"", f"content-length: {size}", line))
        assert (transport.statuses, transport.ended) == ([413], "eof")

    played(scene)


def test_who_asks_first_is_told_to_go_on() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/a", b"x", "expect: 100-Continue")[:-1])
        assert transport.statuses == [100]
        connection.data_received(b"x")
        assert transport.statuses == [100, 200]

    played(scene)


def test_a_fault_of_the_applications_is_an_answer() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/fails") + request())
        settle(connection)
        assert transport.statuses == [500, 200]

    played(scene)


def test_an_answer_to_somebody_who_has_gone_is_for_nobody() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/later") + request("/later"))
        connection.connection_lost(None)
        assert (house.connections.in_flight, house.connections._count) == (0, 0)
        house.application.later.pop()(ACCEPTED)
        settle(connection)
        assert (transport.sent, house.connections.in_flight) == ([], 0)
        assert len(house.application.asked) == 1

    played(scene)


def test_a_body_that_breaks_off_is_told_the_application() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/a", b"abc")[:-1])
        assert connection.eof_received() is False
        connection.connection_lost(None)
        assert house.application.broke == [b"/a"]
        assert house.application.asked == []

    played(scene)


def test_who_has_said_all_still_gets_the_answers() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/later") + request())
        assert connection.eof_received() is True
        house.application.later.pop()(ACCEPTED)
        settle(connection)
        assert (transport.statuses, transport.ended) == ([202, 200], "close")

    played(scene)


def test_when_the_process_stops_each_answer_is_the_last() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request("/later"))
        idle, other = house.connect()
        house.connections.stopping = True
        house.connections.close_idle()
        assert (transport.ended, other.ended) == ("", "close")
        house.application.later.pop()(ACCEPTED)
        assert b"connection: close" in transport.sent[0]
        assert transport.ended == "close"
        assert idle is not connection

    played(scene)


def test_head_is_answered_without_a_body_and_with_its_length() -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        connection.data_received(request(method="HEAD"))
        assert b"content-length: 2\r\n" in transport.sent[0]
        assert transport.sent[0].endswith(b"\r\n\r\n")

    played(scene)


@pytest.mark.parametrize("last", [{"lines": ("connection: close",)}, {"version": b"HTTP/1.0"}])
def test_who_wants_no_more_is_closed(last: dict[str, Any]) -> None:
    def scene(house: House, connection: Connection, transport: Transport) -> None:
        data = request("/", b"x", *last.get("lines", ())).replace(b"HTTP/1.1", last.get("version", b"HTTP/1.1"))
        connection.data_received(data)
        assert (transport.statuses, transport.ended) == ([200], "close")

    played(scene)
