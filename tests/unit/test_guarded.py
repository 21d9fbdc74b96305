"""Calls to what somebody else names: to no address that is not public, and no more of an answer than is of use."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.receiver import CERTIFICATE, NAME, Receiver, answer
from worker import guarded
from worker.guarded import PublicOnly, bounded, public

# --- which addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.192", "198.18.0.1"),
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "168.63.129.16"),
        *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "100::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b:1::a00:1", "2002:7f00:1::", "2001::1", "2001:10::1", "3fff::1", "5f00::1"),
    ],
)
def test_what_is_not_the_public_internets_is_known(text: str) -> None:
    assert not public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1"),
        *("169.253.1.1", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"),
        "64:ff9b::808:808",
    ],
)
def test_what_is_public_is_known_too(text: str) -> None:
    assert public(ip_address(text))


@given(st.ip_addresses())
def test_nothing_is_public_that_pythons_own_list_says_is_not(address: IPv4Address | IPv6Address) -> None:
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if public(address) and (isinstance(address, IPv4Address) or not inner):
        assert address.is_global or address in guarded._NAT64
        assert not address.is_multicast


# --- what is connected to ---------------------------------------------------------------------------------------------


class Names:
    """The resolver: each lookup of ``NAME`` gets the next answer, the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        assert host == NAME, f"{host} was looked up"
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in found
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Names]:
    """``names(["1.2.3.4"], ...)`` is what the system's resolver says from then on. 127.0.0.1, and no other of its
    network, counts as public."""

    def say(*answers: list[str]) -> Names:
        made = Names(*answers)
        monkeypatch.setattr(socket, "getaddrinfo", made)
        return made

    monkeypatch.setattr(guarded, "public", lambda found: str(found) == "127.0.0.1" or public(found))
    return say


@pytest.fixture
def far_side() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def run(body: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def within() -> Any:
        async with httpx.AsyncClient(transport=PublicOnly(**options), timeout=5, trust_env=False) as api:
            return await body(api)

    return asyncio.run(within())


def test_the_name_stays_in_the_request_and_the_connection_is_kept(far_side: Receiver, names: Any) -> None:
    asked = names(["10.0.0.1", "127.0.0.1"])

    async def twice(api: httpx.AsyncClient) -> list[int]:
        return [(await api.post(far_side.url(NAME), content=b"x")).status_code for _ in range(2)]

    assert run(twice) == [204, 204]
    assert far_side.requests[0].headers["host"] == f"{NAME}:{far_side.port}"
    assert (asked.asked, far_side.connections) == (1, 1)


@pytest.mark.parametrize(
    "found", [["127.0.0.2"], ["::1"], ["169.254.169.254", "10.0.0.1"], ["::ffff:127.0.0.2"], ["fe80::1%eth0"]]
)
def test_a_name_that_leads_inside_is_not_called(names: Any, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names(found)

    async def never(*_: Any, **__: Any) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", never)
    with pytest.raises(httpx.ConnectError, match=f"{NAME} has no public address, and no other is called"):
        run(lambda api: api.post(f"http://{NAME}/"))


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "[::ffff:127.0.0.2]"])
def test_an_address_in_the_url_is_judged_like_a_names(host: str) -> None:
    with pytest.raises(httpx.ConnectError, match="no public address"):
        run(lambda api: api.post(f"http://{host}:9/"))


@pytest.mark.parametrize("host", ["2130706434", "0x7f.2", "127.2"])
def test_so_is_an_address_written_as_only_the_system_reads_it(host: str) -> None:
    with pytest.raises(httpx.ConnectError, match=r"no public address|can't be looked up"):
        run(lambda api: api.post(f"http://{host}:9/"))


def test_a_name_that_is_bound_anew_between_check_and_connection_gains_nothing(far_side: Receiver, names: Any) -> None:
    """The first answer is checked and called; nobody asks for the second."""
    asked = names(["127.0.0.1"], ["127.0.0.2"])
    run(lambda api: api.post(far_side.url(NAME)))
    assert (asked.asked, len(far_side.requests)) == (1, 1)
    with pytest.raises(httpx.ConnectError, match="no public address"):
        run(lambda api: api.post(far_side.url(NAME)))
    assert len(far_side.requests) == 1


def test_a_redirect_is_an_answer_and_no_call(far_side: Receiver, names: Any) -> None:
    names(["127.0.0.1"])
    far_side.script = [answer(302, Location=far_side.url("127.0.0.1", "/inside"))]
    assert run(lambda api: api.post(far_side.url(NAME))).status_code == 302
    assert len(far_side.requests) == 1


def test_a_name_that_is_not_known_is_said_to_be_none(names: Any) -> None:
    names([])
    with pytest.raises(httpx.ConnectError, match=f"{NAME} can't be looked up"):
        run(lambda api: api.post(f"http://{NAME}/"))


def test_a_resolver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(20))

    async def call(api: httpx.AsyncClient) -> None:
        try:
            with pytest.raises(httpx.ConnectTimeout, match="in time"):
                await api.post(f"http://{NAME}/", timeout=0.05)
        finally:
            ended.set()

    run(call)


def test_each_address_has_its_share_of_the_time(names: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names(["1.1.1.1", "8.8.8.8"])
    tried: list[tuple[str, float]] = []

    async def no_answer(_self: Any, host: str, _port: int, timeout: float, *_: Any) -> None:  # noqa: ASYNC109
        tried.append((host, timeout))
        raise httpcore.ConnectTimeout

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", no_answer)
    with pytest.raises(httpx.ConnectTimeout):
        run(lambda api: api.post(f"http://{NAME}/", timeout=60))
    assert [host for host, _ in tried] == ["1.1.1.1", "8.8.8.8"]
    assert 20 < tried[0][1] <= 30
    assert 40 < tried[1][1] <= 60


def test_an_address_that_is_closed_leaves_it_to_the_next(
    far_side: Receiver, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(["127.0.0.3", "127.0.0.1"])
    monkeypatch.setattr(guarded, "public", lambda _: True)
    assert run(lambda api: api.post(far_side.url(NAME))).status_code == 204


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_is_by_the_name(names: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names(["127.0.0.1"])
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with Receiver(tls=True) as far_side:
        assert run(lambda api: api.post(far_side.url(NAME))).status_code == 204
        assert far_side.names == [NAME]


def test_a_certificate_that_nobody_vouches_for_is_refused(names: Any) -> None:
    names(["127.0.0.1"])
    with Receiver(tls=True) as far_side:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            run(lambda api: api.post(far_side.url(NAME)))
        assert far_side.requests == []


# --- what is read -----------------------------------------------------------------------------------------------------


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(far_side: Receiver, **limits: Any) -> httpx.Response:
    async def call(api: httpx.AsyncClient) -> httpx.Response:
        async with api.stream("POST", far_side.url(NAME)) as response:
            return await bounded(response, **limits)

    found: httpx.Response = run(call)
    return found


def test_of_an_endless_answer_a_part_is_read(far_side: Receiver, names: Any) -> None:
    names(["127.0.0.1"])
    far_side.script = [far_side.endless(CHUNKED, b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")]
    response = read(far_side, patience=float("inf"))
    assert (response.status_code, len(response.content)) == (200, guarded.MOST)


def test_one_that_comes_in_drops_is_given_up(far_side: Receiver, names: Any) -> None:
    names(["127.0.0.1"])
    far_side.script = [far_side.endless(CHUNKED, b"1\r\nx\r\n", pause=0.01)]
    response = read(far_side, patience=0.1)
    assert response.status_code == 200
    assert len(response.content) < 1000


def test_one_that_breaks_off_has_its_status_all_the_same(far_side: Receiver, names: Any) -> None:
    names(["127.0.0.1"])

    def half(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 429 So\r\nRetry-After: 7\r\nContent-Length: 99\r\n\r\nhalf")

    far_side.script = [half]
    response = read(far_side)
    assert (response.status_code, response.headers["Retry-After"], response.text) == (429, "7", "half")


def test_nothing_is_unpacked(far_side: Receiver, names: Any) -> None:
    names(["127.0.0.1"])
    packed = gzip.compress(b"x" * 10_000_000)
    far_side.script = [answer(200, packed, Content_Encoding="gzip")]
    assert read(far_side).content == packed


@pytest.mark.parametrize(
    ("act", "error"),
    [(b"nonsense\r\n\r\n", httpx.RemoteProtocolError), (lambda connection: None, httpx.RemoteProtocolError)],
)
def test_errors_are_httpxs(far_side: Receiver, names: Any, act: Any, error: type[Exception]) -> None:
    names(["127.0.0.1"])
    far_side.script = [act]
    with pytest.raises(error):
        run(lambda api: api.post(far_side.url(NAME)))


def test_no_answer_in_time_is_httpxs_too(far_side: Receiver, names: Any) -> None:
    names(["127.0.0.1"])
    far_side.script = [far_side.hang]
    with pytest.raises(httpx.ReadTimeout):
        run(lambda api: api.post(far_side.url(NAME), timeout=0.1))
