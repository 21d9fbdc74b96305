"""How the ingress ends: what senders see who come before, during and after, with a proxy in front and without one."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import redis

from tests import processes
from tests.ingress_kit import PARTITIONS, PLAIN, SECRET, event, inboxes, ingress, signed

pytestmark = pytest.mark.server

RESTARTS = 4


def test_it_is_not_ready_first_and_answers_on_until_the_drain_is_over(server_url: str, prefix: str) -> None:
    with ingress(server_url, prefix, DRAIN="1h") as door:
        assert door.post(event(seq=1)).headers.get("connection") != "close"
        door.process.signal(signal.SIGTERM)
        processes.until(lambda: not door.ready(), "it is not ready any more")
        for seq in (2, 3):
            answer = door.post(event(seq=seq))
            assert (answer.status_code, answer.headers["connection"]) == (202, "close")
        door.process.signal(signal.SIGTERM)  # somebody is in a hurry
        assert door.process.wait() == 0


def test_an_interrupt_from_the_keyboard_waits_for_no_proxy(server_url: str, prefix: str) -> None:
    with ingress(server_url, prefix, DRAIN="1h") as door:
        door.process.signal(signal.SIGINT)
        assert door.process.wait() == 0


# --- a socket that somebody else holds --------------------------------------------------------------------------------


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A listening socket, as systemd would make it and hand it over."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        yield listening


# What systemd does between fork and exec (sd_listen_fds(3)).
ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "ingress"])
"""


@contextmanager
def activated(server_url: str, prefix: str, held: socket.socket, count: str = "1") -> Iterator[processes.Process]:
    env = {
        "HANDOFF_REDIS_URL": server_url,
        "HANDOFF_PREFIX": prefix,
        "HANDOFF_PARTITIONS": str(PARTITIONS),
        "HANDOFF_WEBHOOK_SECRET": SECRET,
        "HANDOFF_BIND": "not.used.invalid:1",
    }
    os.set_inheritable(held.fileno(), True)
    command = [sys.executable, "-c", ACTIVATED, str(held.fileno()), count]
    with processes.running(command, env, None, held.fileno()) as process:
        yield process


def test_what_is_handed_over_has_to_be_one_listening_socket(server_url: str, prefix: str, held: socket.socket) -> None:
    with activated(server_url, prefix, held, "2") as process:
        assert process.wait() == 2
        assert "LISTEN_FDS: 2 sockets" in process.output
    with socket.socket() as deaf, activated(server_url, prefix, deaf) as process:
        assert process.wait() == 2
        assert "LISTEN_FDS: what was handed over is no listening TCP socket" in process.output


def test_restarts_on_a_socket_that_is_held_show_no_sender_anything(
    server_url: str, prefix: str, held: socket.socket, client: redis.Redis
) -> None:
    """Every delivery of senders that open a connection for each is answered 202, through all restarts: no refusal, no
    reset, no other answer. While nobody is at the door the kernel keeps them."""
    url = f"http://127.0.0.1:{held.getsockname()[1]}"
    accepted: list[bytes] = []
    wrong: list[object] = []
    over = threading.Event()

    def send(sender: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            body = event(f"team{sender}", number, sender=sender)
            try:
                answer = httpx.post(url + PLAIN, content=body, headers=signed(body), verify=False, timeout=60)
            except httpx.HTTPError as error:
                wrong.append(error)
            else:
                accepted.append(body) if answer.status_code == 202 else wrong.append(answer.status_code)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(RESTARTS):
            before = len(accepted)
            with activated(server_url, prefix, held) as process:
                processes.until(lambda before=before: len(accepted) > before + 50, "the load is on")  # type: ignore[misc]
                assert process.stop() == 0
    finally:
        over.set()
        with activated(server_url, prefix, held):
            for sender in senders:
                sender.join()
    assert wrong == []
    assert len(accepted) > 50 * RESTARTS
    assert sorted(accepted) == sorted(fields[b"b"] for fields in inboxes(client, prefix))
