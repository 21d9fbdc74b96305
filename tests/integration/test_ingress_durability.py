"""The real ingress with ``HANDOFF_DURABILITY=fsync``: 202 when the disk has it, no start where none can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests import access, processes, servers
from tests.ingress_kit import SECRET, FrailServer, Ingress, event, frail_server, inboxes, ingress
from tests.processes import until

pytestmark = pytest.mark.server

FLUSHED = ("--appendonly", "yes", "--appendfsync", "always")
RIGHTS = access.FSYNC.split()
"""What README.md tells to give the ingress's user of deploy/users.acl for it. Redis 7.0 would not read a file that has
them: it knows no WAITAOF."""


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[FrailServer]:
    with frail_server(tmp_path, *FLUSHED) as server:
        with server.client() as client:
            allow(client, *RIGHTS)
        yield server


def allow(client: redis.Redis, *rights: str) -> None:
    client.execute_command("ACL", "SETUSER", "handoff-ingress", *rights)


def calls(client: redis.Redis, command: str) -> int:
    found = client.info("commandstats").get(f"cmdstat_{command}", {})  # type: ignore[union-attr]
    return int(found.get("calls", 0))


def accepts(door: Ingress) -> bool:
    return door.post(event()).status_code == 202


def started(redis_url: str) -> processes.Process:
    env = {
        "HANDOFF_REDIS_URL": redis_url,
        "HANDOFF_PREFIX": "t",
        "HANDOFF_WEBHOOK_SECRET": SECRET,
        "HANDOFF_BIND": f"127.0.0.1:{servers.free_port()}",
        "HANDOFF_DURABILITY": "fsync",
    }
    return processes.start(processes.python("ingress"), env)


def test_a_delivery_is_accepted_when_the_disk_has_it(frail: FrailServer) -> None:
    with ingress(frail.url, "t", DURABILITY="fsync") as door, frail.client() as client:
        before = calls(client, "waitaof")
        assert accepts(door)
        assert calls(client, "waitaof") > before
        assert len(inboxes(client, "t")) == 1


def test_by_default_the_disk_is_not_waited_for(frail: FrailServer) -> None:
    with ingress(frail.url, "t") as door, frail.client() as client:
        assert accepts(door)
        assert (calls(client, "waitaof"), calls(client, "multi")) == (0, 0)


UNABLE = [
    ("valkey", ("--appendonly", "no"), "this server has no append-only file (set appendonly yes"),
    ("valkey", ("--appendfsync", "everysec"), "this server has appendfsync everysec"),
    ("valkey", ("--no-appendfsync-on-rewrite", "yes"), "this server has no-appendfsync-on-rewrite yes"),
    ("redis", (), "this server has no WAITAOF (use Redis 7.2+ or Valkey 7.2+"),
]


@pytest.mark.parametrize(("kind", "options", "said"), [case for case in UNABLE if case[0] in servers.KINDS])
def test_it_does_not_start_where_the_disk_cannot_be_asked(
    kind: str, options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with frail_server(tmp_path, *FLUSHED, *options, kind=kind) as server, server.client() as client:
        if kind == "redis" and client.info("server")["redis_version"] >= "7.2":
            pytest.skip("this redis-server has WAITAOF")
        ended = started(server.url)
        assert ended.wait() == 2
        [line] = ended.output.splitlines()
        assert line.startswith(f"ingress: HANDOFF_DURABILITY: is fsync, but {said}")
        assert line.endswith("or set HANDOFF_DURABILITY=server)")
        assert client.dbsize() == 0, "it has decided nothing"


def test_the_rights_that_the_ingress_is_given_for_it_are_enough(frail: FrailServer) -> None:
    with ingress(frail.url, "t", DURABILITY="fsync") as door, frail.client() as client:
        assert accepts(door)
        assert client.acl_log() == []
    assert f"`{' '.join(RIGHTS)}`" in (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize(
    ("right", "said"),
    [("waitaof", "may not use WAITAOF (allow it +waitaof"), ("config|get", "may not read appendfsync")],
)
def test_it_does_not_start_without_the_right_to_ask(right: str, said: str, frail: FrailServer) -> None:
    with frail.client() as client:
        allow(client, f"-{right}")
        ended = started(access.as_user(frail.url, "ingress"))
        assert ended.wait() == 2
        assert said in ended.output
        assert "Traceback" not in ended.output


def test_a_server_that_comes_later_and_cannot_ends_the_process(frail: FrailServer) -> None:
    frail.kill()
    everybody = frail.url.replace("redis://", "redis://default:any@")  # a new server has forgotten what it allowed
    with ingress(everybody, "t", wait="/healthz", DURABILITY="fsync") as door:
        frail.options = ("--appendonly", "no")
        frail.start()
        assert door.process.wait() == 2
        assert "ingress: HANDOFF_DURABILITY: is fsync, but this server has no append-only file" in door.process.output


@pytest.mark.parametrize(
    ("spoil", "mend", "said"),
    [
        ({"appendonly": "no"}, {"appendonly": "yes"}, "no append-only file"),
        ({"appendfsync": "everysec"}, {"appendfsync": "always"}, "appendfsync everysec"),
    ],
    ids=["file off", "everysec"],
)
def test_a_server_that_is_changed_meanwhile_is_answered_503_with_the_reason(
    spoil: dict[str, str], mend: dict[str, str], said: str, frail: FrailServer
) -> None:
    with ingress(frail.url, "t", DURABILITY="fsync") as door, frail.client() as client:
        assert accepts(door)
        set_all(client, spoil)
        until(lambda: not door.ready(), "not ready")
        error = door.http.get("/readyz").json()["error"]
        assert error["code"] == "not_ready"
        assert "HANDOFF_DURABILITY" in error["message"]
        assert said in error["message"]
        assert door.code(event()) == (503, "store_unavailable")
        set_all(client, mend)
        until(lambda: accepts(door), "accepting again")
        until(door.ready, "ready again")


def set_all(client: redis.Redis, directives: dict[str, str]) -> None:
    change: Callable[..., object] = client.config_set
    for name, value in directives.items():
        change(name, value)
