"""Which connections are told that they are late, and which go when they crowd; the clock is the test's."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Iterator

import pytest

from ingress import connections as module
from ingress.connections import GRACE, MOST, OTHER_FILES, TRUSTED, allowed
from ingress.http1 import LINGER
from ingress.parsing import IDLE, PATIENCE
from tests.http1_kit import House, request


class Clock:
    """Time of the loop, which stands still."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(house.connections.loop, "time", lambda: self.now)
        self.look = house.connections.look

    def go(self, seconds: float) -> None:
        self.now += seconds
        self.look()


Scene = Callable[[House, Clock], None]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Scene, int], None]]:
    def play(scene: Scene, most: int) -> None:
        async def within() -> None:
            house = House(most)
            with monkeypatch.context() as patched:
                scene(house, Clock(house, patched))

        asyncio.run(within())

    return play


Play = Callable[[Scene, int], None]


def test_who_brings_nothing_has_a_grace_in_a_crowd_and_no_more(played: Play) -> None:
    def scene(house: House, clock: Clock) -> None:
        _, transport = house.connect()
        clock.go(0)
        clock.go(GRACE - 0.1)
        assert not transport.ended
        clock.go(0.1)
        assert transport.ended == "abort"
        assert house.metrics.registry.get_sample_value("handoff_ingress_connections_cut_total") == 1

    played(scene, 1)


def test_who_comes_later_has_a_grace_of_its_own(played: Play) -> None:
    def scene(house: House, clock: Clock) -> None:
        _, early = house.connect()
        clock.go(0)
        _, late = house.connect()
        clock.go(1.0)
        clock.go(GRACE - 1.0)
        assert (early.ended, late.ended) == ("abort", "")

    played(scene, 1)


def test_without_a_crowd_nobody_goes_before_a_head_is_late(played: Play) -> None:
    def scene(house: House, clock: Clock) -> None:
        connection, transport = house.connect()
        clock.go(IDLE - 0.1)
        connection.data_received(b"POST / HT")
        assert not transport.ended
        clock.go(0.1)
        assert transport.ended == "abort"

    played(scene, 100)


def test_a_request_that_has_just_begun_is_let_go_on_and_a_slow_one_is_not(played: Play) -> None:
    def scene(house: House, clock: Clock) -> None:
        connection, transport = house.connect()
        clock.go(0)
        clock.now += GRACE
        connection.data_received(request("/later"))
        assert house.connections.in_flight == 1
        clock.go(GRACE - 0.1)
        assert not transport.ended
        clock.go(0.1)
        assert transport.ended == "abort"

    played(scene, 1)


@pytest.mark.parametrize("status", [202, 401])
def test_who_brought_what_was_accepted_is_spared_for_a_while(played: Play, status: int) -> None:
    def scene(house: House, clock: Clock) -> None:
        connection, transport = house.connect()
        connection.data_received(request("/later"))
        house.application.later.pop()(module.Answer(status, ""))
        assert house.connections.in_flight == 0
        clock.go(0)
        clock.go(TRUSTED - 0.1)
        assert bool(transport.ended) is (status != 202)
        if status == 202:
            clock.go(0.1)
            assert transport.ended == "abort"

    played(scene, 1)


def test_a_body_that_is_late_is_told_so_and_the_rest_of_it_read_away_for_a_moment(played: Play) -> None:
    def scene(house: House, clock: Clock) -> None:
        connection, transport = house.connect()
        connection.data_received(request("/", b"x" * 50)[:-1])
        clock.go(PATIENCE - 0.1)
        assert not transport.sent
        clock.go(0.1)
        connection._go_on()  # what it has asked of the loop
        assert (transport.statuses, transport.ended) == ([408], "eof")
        connection.data_received(b"x")
        clock.go(LINGER)
        assert transport.ended == "abort"
        assert len(transport.sent) == 1

    played(scene, 100)


def test_no_more_are_accepted_than_may_be_and_the_next_when_one_has_gone() -> None:
    async def scene() -> None:
        house = House(most=2)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            house.connections.accept_from(listener)
            opened = [await asyncio.open_connection(*listener.getsockname()) for _ in range(3)]
            for _, writer in opened:
                writer.write(request())
            for reader, _ in opened[:2]:
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
            assert len(house.connections._all) == 2
            opened[0][1].close()
            assert (await opened[2][0].readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
            house.connections.stop_accepting()
            house.connections.close_idle()
            assert await house.connections.ended(20)
            for _, writer in opened:
                writer.close()

    asyncio.run(scene())


def test_out_of_descriptors_it_waits_for_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

    async def scene() -> None:
        house = House()
        readers: list[object] = []
        monkeypatch.setattr(house.connections.loop, "add_reader", lambda what, *_: readers.append(what))
        monkeypatch.setattr(house.connections.loop, "remove_reader", readers.remove)
        house.connections.accept_from(Full())  # type: ignore[arg-type]
        assert len(readers) == 1
        house.connections._accept(64)
        assert readers == []
        house.connections.look()
        assert len(readers) == 1

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("limits", "raised", "most"),
    [
        ((1024, 16384), MOST + OTHER_FILES, MOST),
        ((1024, 2048), 2048, 2048 - OTHER_FILES),
        ((1024, resource.RLIM_INFINITY), MOST + OTHER_FILES, MOST),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, MOST),
        ((100_000, 100_000), None, MOST),
        ((128, 128), 128, 128 - OTHER_FILES),
    ],
)
def test_no_more_connections_than_there_are_descriptors_for(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: int | None, most: int
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(module.resource, "getrlimit", lambda _what: limits)
    monkeypatch.setattr(module.resource, "setrlimit", lambda _what, both: asked.append(both))
    assert allowed() == most
    assert asked == ([] if raised is None else [(raised, limits[1])])
