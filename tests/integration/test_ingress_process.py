"""How ``python -m ingress`` starts, or says in one line why not, and how it ends."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests import processes
from tests.ingress_kit import PARTITIONS, PLAIN, SECRET, event, inboxes, ingress, signed
from tests.servers import free_port
from worker.store.keys import config

pytestmark = pytest.mark.server


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def refusal_to_start(server_url: str, prefix: str, **settings: str) -> str:
    """What it says when it does not start: one line, with exit code 2 and no traceback."""
    env = {"REDIS_URL": server_url, "PREFIX": prefix, "WEBHOOK_SECRET": SECRET, "BIND": "127.0.0.1:0", **settings}
    with processes.running(
        processes.python("ingress"), {f"HANDOFF_{name}": value for name, value in env.items()}
    ) as process:
        assert process.wait() == 2
        lines = [line for line in process.output.splitlines() if not line.startswith("{")]  # those are the log's
        assert len(lines) == 1, process.output
        return lines[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("WEBHOOK_SECRET", ""),
        ("WEBHOOK_SECRET", "short"),
        ("TEAM_SECRETS", "no-equals-sign"),
        ("BIND", "8000"),
        ("BIND", "no.such.host.invalid:8000"),
        ("BIND", "192.0.2.1:8000"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("MAX_BODY", "lots"),
        ("PARTITIONS", "0"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(server_url: str, prefix: str, setting: str, value: str) -> None:
    line = refusal_to_start(server_url, prefix, **{setting: value})
    assert f"HANDOFF_{setting}" in line
    assert setting == "BIND" or not value or value not in line, "the value may be a secret"


def test_a_port_in_use_is_one_line(server_url: str, prefix: str, taken_port: int) -> None:
    line = refusal_to_start(server_url, prefix, BIND=f"127.0.0.1:{taken_port}")
    assert "HANDOFF_BIND" in line
    assert "in use" in line


def test_a_second_ingress_does_not_share_the_first_ones_port(server_url: str, prefix: str) -> None:
    with ingress(server_url, prefix) as first:
        line = refusal_to_start(server_url, prefix, BIND=f"127.0.0.1:{first.http.base_url.port}")
        assert "in use" in line


def test_another_number_of_partitions_is_one_line(server_url: str, prefix: str, client: redis.Redis) -> None:
    client.hset(config(prefix), "partitions", 8)
    assert "HANDOFF_PARTITIONS" in refusal_to_start(server_url, prefix, PARTITIONS="4")


def test_team_secrets_alone_are_enough_to_start(server_url: str, prefix: str) -> None:
    with ingress(server_url, prefix, WEBHOOK_SECRET="", TEAM_SECRETS="acme=own_secret_1") as door:
        assert door.post(event("acme"), f"{PLAIN}/acme", signed(event("acme"), "own_secret_1")).status_code == 202
        assert door.code(event("acme")) == (401, "signature_invalid")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_and_leaves_nothing(server_url: str, prefix: str, number: int) -> None:
    with ingress(server_url, prefix) as door:
        assert door.post(event()).status_code == 202
        children = Path(f"/proc/{door.process.pid}/task/{door.process.pid}/children")
        assert not children.exists() or children.read_text() == "", "one process is all there is"
        door.process.signal(number)
        assert door.process.wait() == 0
        assert "Traceback" not in door.process.output
        with pytest.raises(OSError, match=r"refused"):
            socket.create_connection(("127.0.0.1", door.http.base_url.port or 0))


def test_senders_that_never_finish_don_t_keep_it(server_url: str, prefix: str) -> None:
    with ingress(server_url, prefix) as door:
        address = ("127.0.0.1", door.http.base_url.port or 0)
        with socket.create_connection(address) as head, socket.create_connection(address) as body:
            head.sendall(b"POST /webhooks/inbox HTTP/1.1\r\nHo")
            body.sendall(b"POST /webhooks/inbox HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\nabc")
            processes.until(lambda: door.metric("handoff_ingress_in_flight") == 2, "the second has begun")
            assert door.process.stop() == 0
        assert "Traceback" not in door.process.output


def test_the_end_under_load_loses_nothing_it_has_acknowledged(
    server_url: str, prefix: str, client: redis.Redis
) -> None:
    """Every 202 is in the stream; whoever gets no 202 gets a closed or refused connection and no error answer."""
    acknowledged: set[bytes] = set()
    others: list[int] = []
    with ingress(server_url, prefix) as door:

        def send(sender: int) -> None:
            with httpx.Client(base_url=door.http.base_url, verify=False) as http:
                for number in range(100_000):
                    body = event(f"team{sender}", number, sender=sender)
                    try:
                        answer = http.post(PLAIN, content=body, headers=signed(body))
                    except httpx.TransportError:
                        return
                    if answer.status_code == 202:
                        acknowledged.add(body)
                    else:
                        others.append(answer.status_code)

        senders = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for sender in senders:
            sender.start()
        processes.until(lambda: len(acknowledged) > 200, "the load is on")
        assert door.process.stop() == 0
        for sender in senders:
            sender.join()
    stored = {fields[b"b"] for fields in inboxes(client, prefix)}
    assert acknowledged <= stored
    assert others == []
    assert len(stored - acknowledged) <= len(senders), "what was under way is all that may be unanswered"


def test_it_runs_on_an_address_of_the_sixth_version(server_url: str, prefix: str) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    port = free_port()
    env = {"REDIS_URL": server_url, "PREFIX": prefix, "WEBHOOK_SECRET": SECRET, "BIND": f"[::1]:{port}"}
    with processes.running(processes.python("ingress"), {f"HANDOFF_{k}": v for k, v in env.items()}) as process:
        process.wait_for_output("listening")
        processes.until(lambda: _alive(f"http://[::1]:{port}/healthz"), "it answers")
        assert process.stop() == 0


def _alive(url: str) -> bool:
    try:
        return httpx.get(url, verify=False).status_code == 200
    except httpx.TransportError:
        return False


def test_partitions_are_fixed_by_the_first(server_url: str, prefix: str, client: redis.Redis) -> None:
    with ingress(server_url, prefix):
        assert client.hget(config(prefix), "partitions") == str(PARTITIONS).encode()
