"""The proxy that tests break connections with does break them as it says."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.processes import until
from tests.proxy import Proxy

QUIET = 0.2  # seconds in which nothing may come


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with Proxy.of(f"redis://127.0.0.1:{server.server_address[1]}/0") as made:
            yield made
        server.shutdown()


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for one in made:
        one.close()


def link(proxy: Proxy, sockets: list[socket.socket]) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    sockets.append(made)
    return made


def echoes(one: socket.socket) -> bool:
    one.sendall(b"ping")
    return one.recv(4) == b"ping"


def is_silent(one: socket.socket) -> bool:
    one.settimeout(QUIET)
    try:
        one.sendall(b"ping")
        return not one.recv(4) and False
    except TimeoutError:
        return True


def is_reset(one: socket.socket) -> bool:
    try:
        return one.recv(4) == b""
    except ConnectionError:
        return True


def test_it_forwards(proxy: Proxy, sockets: list[socket.socket]) -> None:
    first, second = link(proxy, sockets), link(proxy, sockets)
    assert echoes(first)
    assert echoes(second)
    assert proxy.connections == 2
    first.close()
    until(lambda: proxy.connections == 1, "the end of one is passed on")


def test_cut_resets_the_live_ones_alone(proxy: Proxy, sockets: list[socket.socket]) -> None:
    first = link(proxy, sockets)
    assert echoes(first)
    proxy.cut()
    assert is_reset(first)
    assert echoes(link(proxy, sockets))


def test_live_connections_fall_silent_and_new_ones_work(proxy: Proxy, sockets: list[socket.socket]) -> None:
    first = link(proxy, sockets)
    assert echoes(first)
    proxy.black_hole_live()
    assert is_silent(first)
    assert echoes(link(proxy, sockets))
    proxy.heal()
    assert is_silent(first), "for good"
    second = link(proxy, sockets)
    assert echoes(second)
    proxy.bury()
    assert is_reset(first)
    assert echoes(second)


def test_all_fall_silent_until_healed(proxy: Proxy, sockets: list[socket.socket]) -> None:
    first = link(proxy, sockets)
    assert echoes(first)
    proxy.black_hole_all()
    assert is_silent(first)
    assert is_silent(link(proxy, sockets))
    proxy.heal()
    assert echoes(link(proxy, sockets))


def test_refused_until_healed(proxy: Proxy, sockets: list[socket.socket]) -> None:
    first = link(proxy, sockets)
    assert echoes(first)
    proxy.refuse()
    assert is_reset(first)
    assert is_reset(link(proxy, sockets))
    proxy.heal()
    assert echoes(link(proxy, sockets))


def test_delayed_until_healed(proxy: Proxy, sockets: list[socket.socket]) -> None:
    first = link(proxy, sockets)
    proxy.delay(QUIET)
    began = time.monotonic()
    assert echoes(first)
    assert time.monotonic() - began >= 2 * QUIET
    proxy.heal()


def test_a_server_that_is_away_is_a_reset(sockets: list[socket.socket]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(nobody.getsockname()[1]) as proxy:
            assert is_reset(link(proxy, sockets))
            assert proxy.url("redis://me:secret@127.0.0.1:1/3") == f"redis://me:secret@127.0.0.1:{proxy.port}/3"
