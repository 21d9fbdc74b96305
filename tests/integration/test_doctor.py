"""``handoff doctor`` against real servers, each made unsafe in one way; and one that has nothing wrong with it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import redis

from tests import servers
from tests.beats import beat
from tests.cli_kit import Ran, describe, run, run_process
from tests.handler_kit import importing
from tests.ingress_kit import FrailServer, frail_server
from tests.processes import until
from worker.core.liveness import Condition
from worker.settings import Settings
from worker.store.heartbeats import Heartbeats
from worker.store.installation import announce_handlers
from worker.store.keys import config, sweeper
from worker.store.scripts import Scripts

pytestmark = pytest.mark.server

DEPLOY = Path(__file__).parents[2] / "deploy"
SECRET = "ibt_wh_Qm5vdCBhIHNlY3JldCBvZi"
PREFIX = "t"
SAFE = (
    *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory", "1gb"),
    *("--enable-protected-configs", "yes"),  # dir can be changed, for a disk that fails
)


@pytest.fixture(scope="module", params=servers.KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrailServer]:
    with frail_server(tmp_path_factory.mktemp("server"), *SAFE, kind=request.param) as found:
        yield found


@pytest.fixture
def client(server: FrailServer) -> Iterator[redis.Redis]:
    with server.client() as found:
        yield found
        found.flushall()


def doctor(server: FrailServer, folder: Path, *options: str, **environment: str) -> Ran:
    usual = {"HANDOFF_REDIS_URL": server.url, "HANDOFF_PREFIX": PREFIX, "HANDOFF_WEBHOOK_SECRET": SECRET}
    with importing():
        return run("doctor", *options, folder=folder, **usual | environment)


def found(ran: Ran, check: str) -> dict[str, str]:
    """The worst finding of a check; its level alone is none where it has not been looked at."""
    levels = ("unknown", "unsafe", "warn", "ok")
    findings = [finding for finding in ran.json["findings"] if finding["check"] == check]
    return min(findings, key=lambda finding: levels.index(finding["level"]), default={"level": "none"})


def test_a_safe_server_is_called_safe(server: FrailServer, tmp_path: Path, client: redis.Redis) -> None:
    ran = doctor(server, tmp_path, "--json")
    assert {finding["level"] for finding in ran.json["findings"]} == {"ok"}
    assert (ran.code, ran.json["safe"]) == (0, True)
    told = doctor(server, tmp_path)
    assert (told.code, told.out.splitlines()[-1]) == (0, "Nothing is unsafe.")
    assert client.dbsize() == 0, "it has decided nothing"


@pytest.mark.parametrize(
    ("directive", "value", "check", "level", "remedy"),
    [
        ("maxmemory-policy", "allkeys-lru", "eviction", "unsafe", "maxmemory-policy noeviction"),
        ("maxmemory-policy", "volatile-ttl", "eviction", "unsafe", "maxmemory-policy noeviction"),
        ("appendonly", "no", "append-only file", "unsafe", "appendonly yes"),
        ("appendfsync", "no", "append-only file", "unsafe", "appendfsync everysec"),
        ("no-appendfsync-on-rewrite", "yes", "append-only file", "warn", "no-appendfsync-on-rewrite no"),
        ("aof-load-truncated", "no", "append-only file", "warn", "aof-load-truncated yes"),
        ("maxmemory", "1mb", "memory", "unsafe", "raise maxmemory"),
        ("maxmemory", "0", "memory", "warn", "maxmemory "),
        ("maxmemory", str(1 << 50), "memory", "unsafe", "maxmemory "),
        ("timeout", "30", "connections", "warn", "timeout 0"),
    ],
)
def test_a_directive_that_is_unsafe(
    directive: str,
    value: str,
    check: str,
    level: str,
    remedy: str,
    server: FrailServer,
    client: redis.Redis,
    tmp_path: Path,
) -> None:
    before = client.config_get(directive)[directive]
    client.config_set(directive, value)
    try:
        ran = doctor(server, tmp_path, "--json")
    finally:
        client.config_set("maxmemory", "1gb")  # or a full server would refuse the next line
        client.config_set(directive, before)
    finding = found(ran, check)
    assert (finding["level"], ran.code) == (level, 1 if level == "unsafe" else 0)
    assert finding["remedy"].startswith(remedy)
    assert finding["where"] == f"127.0.0.1:{server.port}"
    assert finding["why"]


def test_a_replica_in_place_of_the_primary(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    client.replicaof("127.0.0.1", "1")
    try:
        ran = doctor(server, tmp_path, "--json")
    finally:
        client.replicaof("no", "one")
    assert (found(ran, "role")["level"], ran.code) == ("unsafe", 1)


def test_a_disk_that_fails(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    before = client.config_get("dir")["dir"]
    client.config_set("dir", str(folder))
    folder.rmdir()
    try:
        with contextlib.suppress(redis.exceptions.ResponseError):
            client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot has failed")  # type: ignore[index]
        ran = doctor(server, tmp_path, "--json")
    finally:
        client.config_set("dir", before)
        client.config_set("stop-writes-on-bgsave-error", "no")
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", "a good snapshot")  # type: ignore[index]
        client.config_set("stop-writes-on-bgsave-error", "yes")
    assert (found(ran, "disk")["level"], ran.code) == ("unsafe", 1)


@pytest.mark.parametrize(("ahead", "level", "code"), [(60, "unsafe", 1), (-60, "unsafe", 1), (5, "warn", 0)])
def test_a_clock_that_is_off(ahead: float, level: str, code: int, server: FrailServer, tmp_path: Path) -> None:
    right = time.time
    with mock.patch("worker.ops.doctor.asking.time.time", side_effect=lambda: right() + ahead):
        ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "clock")["level"], ran.code) == (level, code)


def test_fsync_where_the_server_can_and_cannot(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    asked = doctor(server, tmp_path, "--json", HANDOFF_DURABILITY="fsync")
    finding = found(asked, "durability")
    assert (finding["level"], asked.code) == ("unsafe", 1)
    assert finding["remedy"].startswith("set appendfsync always" if server.kind == "valkey" else "use Redis 7.2+")
    if server.kind == "valkey":
        client.config_set("appendfsync", "always")
        able = doctor(server, tmp_path, "--json", HANDOFF_DURABILITY="fsync")
        client.config_set("appendfsync", "everysec")
        assert (found(able, "durability")["level"], able.code) == ("ok", 0)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "check", "level", "said"),
    [
        ({"HANDOFF_WEBHOOK_SECRET": ""}, "secret", "unsafe", "there is no signing secret"),
        ({"HANDOFF_WEBHOOK_SECRET": "geheim"}, "secret", "unsafe", "under 8 characters"),
        ({"HANDOFF_WEBHOOK_SECRET": "ibt_wh_geheim123"}, "secret", "unsafe", "is too short: 9 characters"),
        ({"HANDOFF_TEAM_SECRETS": "acme=geheim123"}, "secret", "unsafe", "team acme's secret is too short"),
        ({"HANDOFF_MAX_BODY": "geheim"}, "settings", "unsafe", "HANDOFF_MAX_BODY: "),
        ({"HANDOFF_GAP_WAIT": "3d"}, "settings", "unsafe", "HANDOFF_GAP_WAIT: "),
        ({"HANDOFF_DURABILITY": "geheim"}, "settings", "unsafe", "HANDOFF_DURABILITY: "),
        ({"HANDOFF_HANDLERS": "no.such.module"}, "settings", "unsafe", "HANDOFF_HANDLERS: there is no module"),
        ({"HANDOFF_HUBSPT_TOKEN": "geheim"}, "settings", "warn", "is HANDOFF_HUBSPOT_TOKEN meant?"),
        ({"HANDOFF_BROKER_URL": "amqp://me:geheim@127.0.0.1:1//"}, "broker", "unsafe", "can't be reached"),
        ({"HANDOFF_BROKER_URL": "redis://:geheim@127.0.0.1:1/0"}, "broker", "unsafe", "can't be reached"),
    ],
)
def test_a_setting_that_is_unsafe(
    environment: dict[str, str], check: str, level: str, said: str, server: FrailServer, tmp_path: Path
) -> None:
    """All of them in one look, and none is a reason not to look at the server."""
    ran = doctor(server, tmp_path, "--json", **environment)
    finding = found(ran, check)
    assert (finding["level"], ran.code) == (level, 1 if level == "unsafe" else 0)
    assert said in finding["what"]
    assert finding["remedy"]
    assert "geheim" not in ran.out + ran.err
    assert found(ran, "server")["level"] == "ok"


def test_several_wrong_settings_are_told_at_once(server: FrailServer, tmp_path: Path) -> None:
    wrong = {
        "HANDOFF_MAX_BODY": "big",
        "HANDOFF_GAP_WAIT_MIN": "30s",
        "HANDOFF_HELD_MAX": "0",
        "HANDOFF_LOG_LEVEL": "x",
    }
    ran = doctor(server, tmp_path, "--json", **wrong)
    told = {finding["what"].partition(":")[0] for finding in ran.json["findings"] if finding["level"] == "unsafe"}
    assert told == set(wrong)


def test_a_broker_that_refuses_the_password(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    client.execute_command("ACL", "SETUSER", "bells", "on", ">right", "~*", "&*", "+@all")
    ran = doctor(server, tmp_path, "--json", HANDOFF_BROKER_URL=server.url.replace("redis://", "redis://bells:geheim@"))
    assert (found(ran, "broker")["level"], ran.code) == ("unsafe", 1)
    assert "geheim" not in ran.out


# --- the installation -------------------------------------------------------------------------------------------------


def started(client: redis.Redis) -> None:
    client.hset(config(PREFIX), "partitions", 4)
    client.set(sweeper(PREFIX), "somebody")


def test_partitions_that_differ(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    started(client)
    ran = doctor(server, tmp_path, "--json", HANDOFF_PARTITIONS="8")
    assert (found(ran, "partitions")["level"], ran.code) == ("unsafe", 1)
    assert found(ran, "partitions")["remedy"].startswith("HANDOFF_PARTITIONS=4")
    assert doctor(server, tmp_path, HANDOFF_PARTITIONS="4").code == 0


def test_handlers_that_differ_from_the_workers(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    started(client)
    settings = Settings(redis_url=server.url, prefix=PREFIX)
    announce_handlers(client, settings, [describe("log", queue="elsewhere")])
    ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "handlers")["level"], ran.code) == ("unsafe", 1)
    assert "queue" in found(ran, "handlers")["what"]


def beating(server: FrailServer, client: redis.Redis, **changes: Any) -> None:
    Heartbeats(client, Scripts(client), PREFIX).write(beat(**changes))


def test_workers_whose_handlers_differ(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    started(client)
    beating(server, client, id="one", name="celery@web1", handlers={"crm": "aaa", "mail": "mmm"})
    beating(server, client, id="two", name="celery@web2", handlers={"crm": "aaa", "mail": "mmm"})
    assert doctor(server, tmp_path).code == 0
    beating(server, client, id="two", name="celery@web2", handlers={"crm": "bbb", "mail": "mmm"})
    ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "handlers")["level"], ran.code) == ("unsafe", 1)
    what = found(ran, "handlers")["what"]
    assert what == "crm is defined differently by the workers celery@web1 (process 17) | celery@web2 (process 17)"


def test_a_worker_whose_clock_is_off_and_one_that_is_deaf(
    server: FrailServer, client: redis.Redis, tmp_path: Path
) -> None:
    started(client)
    beating(server, client, id="one", skew_ms=-45_000)
    ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "clock")["level"], ran.code) == ("unsafe", 1)
    beating(server, client, id="one", condition=Condition.DEAF, unheard=20.0)
    ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "workers")["level"], ran.code) == ("unsafe", 1)


def test_a_queue_that_no_worker_reads(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    started(client)
    announce_handlers(client, Settings(redis_url=server.url, prefix=PREFIX), [describe("crm", queue="crm")])
    beating(server, client)
    ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "queues")["level"], ran.code) == ("unsafe", 1)
    assert "-Q crm" in found(ran, "queues")["remedy"]


def test_a_queue_that_nobody_reads(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    started(client)
    client.rpush(f"{PREFIX}:broker:handoff.sequence", *range(1000))
    ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "queues")["level"], ran.code) == ("unsafe", 1)


def test_no_worker_at_all(server: FrailServer, client: redis.Redis, tmp_path: Path) -> None:
    started(client)
    client.delete(sweeper(PREFIX))
    ran = doctor(server, tmp_path, "--json")
    assert (found(ran, "workers")["level"], ran.code) == ("warn", 0)


# --- what can't be asked ----------------------------------------------------------------------------------------------


def test_a_server_that_is_away(tmp_path: Path) -> None:
    url = f"redis://:geheim@127.0.0.1:{servers.free_port()}/0"
    ran = run_process("doctor", "--json", folder=tmp_path, HANDOFF_REDIS_URL=url, HANDOFF_WEBHOOK_SECRET=SECRET)
    assert (found(ran, "server")["level"], ran.code) == ("unknown", 2)
    assert found(ran, "settings")["level"] == "ok", "what can be looked at is"
    assert "geheim" not in ran.out + ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("right", "check", "level", "code"), [("info", "server", "unknown", 2), ("config|get", "rights", "warn", 0)]
)
def test_a_user_who_may_not_look(
    right: str, check: str, level: str, code: int, server: FrailServer, client: redis.Redis, tmp_path: Path
) -> None:
    client.execute_command("ACL", "SETUSER", "blind", "reset", "on", ">geheim", "~*", "&*", "+@all", f"-{right}")
    url = server.url.replace("redis://", "redis://blind:geheim@")
    ran = doctor(server, tmp_path, "--json", HANDOFF_REDIS_URL=url)
    assert (found(ran, check)["level"], ran.code) == (level, code)
    assert "geheim" not in ran.out + ran.err


def test_the_server_of_deploy_is_safe_as_it_is_shipped(tmp_path: Path) -> None:
    """deploy/valkey.conf, and the settings of deploy/env.example with a secret in them; as its own user for looking."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    smaller = ("--maxmemory", "256mb") if memory < 4 << 30 else ()  # the file says 3 GB, for a machine that has them
    server = FrailServer(tmp_path, configuration=DEPLOY / "valkey.conf", options=smaller)
    server.start()
    try:
        lines = [line for line in (DEPLOY / "env.example").read_text().splitlines() if line and "=" in line]
        named = dict(
            line.removeprefix("# ").split("=", 1) for line in lines if line.removeprefix("# ").startswith("HANDOFF_")
        )
        named = {name: value for name, value in named.items() if value}
        named |= {"HANDOFF_WEBHOOK_SECRET": SECRET, "HANDOFF_REDIS_URL": server.url}
        with importing():
            ran = run("doctor", "--json", folder=tmp_path, **named)
        assert [finding for finding in ran.json["findings"] if finding["level"] == "unsafe"] == []
        assert ran.code == 0
    finally:
        server.kill()
