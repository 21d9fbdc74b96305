"""Which connections go when they crowd, on real sockets of this process; the clock is the test's."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ingress import connections as module
from ingress.connections import GRACE, MOST, OTHER_FILES, REMEMBERED, TRUSTED, Connections, allowed
from ingress.metrics import Metrics


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


class Crowd:
    """Connections to a listener, both ends in this process."""

    def __init__(self, stack: ExitStack, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.stack = stack
        self.listener = stack.enter_context(socket.create_server((host, 0), family=family))
        self.port = self.listener.getsockname()[1]
        self.guard = Connections(4, Metrics())

    def connect(self) -> tuple[str, socket.socket]:
        """Its peer's name, as the HTTP server has it, and the far end."""
        far = self.stack.enter_context(socket.create_connection(self.listener.getsockname()[:2]))
        self.stack.enter_context(self.listener.accept()[0])
        host, port = far.getsockname()[:2]
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), far


def was_cut(far: socket.socket) -> bool:
    far.setblocking(False)
    try:
        return far.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def crowd(stack: ExitStack) -> Crowd:
    return Crowd(stack)


def test_who_brings_nothing_has_a_grace_and_no_more(crowd: Crowd) -> None:
    _, far = crowd.connect()
    assert crowd.guard.relieve(crowd.port, 100.0) == 0
    assert crowd.guard.relieve(crowd.port, 100.0 + GRACE - 0.1) == 0
    assert not was_cut(far)
    assert crowd.guard.relieve(crowd.port, 100.0 + GRACE) == 1
    assert was_cut(far)


def test_who_comes_later_has_a_grace_of_its_own(crowd: Crowd) -> None:
    _, early = crowd.connect()
    crowd.guard.relieve(crowd.port, 100.0)
    _, late = crowd.connect()
    crowd.guard.relieve(crowd.port, 101.0)
    crowd.guard.relieve(crowd.port, 100.0 + GRACE)
    assert (was_cut(early), was_cut(late)) == (True, False)


def test_a_request_that_has_just_begun_is_let_go_on_and_a_slow_one_is_not(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, far = crowd.connect()
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    crowd.guard.relieve(crowd.port, now)
    now += GRACE
    crowd.guard.begin(peer)
    assert crowd.guard.in_flight == 1
    crowd.guard.relieve(crowd.port, now + GRACE - 0.1)
    assert not was_cut(far)
    crowd.guard.relieve(crowd.port, now + GRACE)
    assert was_cut(far)


@pytest.mark.parametrize("accepted", [True, False])
def test_who_brought_what_was_accepted_is_spared_for_a_while(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    peer, far = crowd.connect()
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    crowd.guard.begin(peer)
    crowd.guard.end(peer, accepted=accepted)
    assert crowd.guard.in_flight == 0
    crowd.guard.relieve(crowd.port, 100.0)
    crowd.guard.relieve(crowd.port, 100.0 + TRUSTED - 0.1)
    assert was_cut(far) is not accepted
    if accepted:
        crowd.guard.relieve(crowd.port, 100.0 + TRUSTED)
        assert was_cut(far)


def test_it_touches_no_other_socket(crowd: Crowd, stack: ExitStack) -> None:
    other = Crowd(stack)
    _, far = other.connect()
    for now in (100.0, 200.0):
        assert crowd.guard.relieve(crowd.port, now) == 0
    assert not was_cut(far)
    far.setblocking(True)
    other.connect()  # its listener still listens


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_knows_the_names_of_the_sixth_version(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        crowd = Crowd(stack, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    peer, far = crowd.connect()
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    crowd.guard.begin(peer)
    crowd.guard.end(peer, accepted=True)
    crowd.guard.relieve(crowd.port, 100.0)
    crowd.guard.relieve(crowd.port, 100.0 + GRACE)
    assert not was_cut(far)


def test_what_is_remembered_is_bounded(crowd: Crowd) -> None:
    for number in range(3 * REMEMBERED):
        crowd.guard.begin(f"10.0.0.1:{number}")
        crowd.guard.end(f"10.0.0.1:{number}", accepted=True)
    assert len(crowd.guard._trusted) + len(crowd.guard._trusted_before) <= 2 * REMEMBERED
    assert crowd.guard.in_flight == 0


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
