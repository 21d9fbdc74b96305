"""What the users of deploy/users.acl may not do, asked of the servers themselves (ACL DRYRUN)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests import access, processes, servers
from tests.cli_kit import run
from tests.rights_kit import refusals

ONCE = Retry(NoBackoff(), 0)
ANYBODY = (
    *("KEYS *", "SCAN 0", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "SCRIPT FLUSH", "FUNCTION FLUSH"),
    *("CONFIG SET maxmemory 1", "CONFIG REWRITE", "ACL LIST", "ACL SETUSER eve", "CLIENT KILL TYPE normal"),
    *("SHUTDOWN", "DEBUG SLEEP 1", "MONITOR", "SAVE", "BGSAVE", "REPLICAOF NO ONE", "SELECT 1", "MIGRATE h 1 k 0 1"),
    *("RENAME handoff:config handoff:x", "DUMP handoff:config", "OBJECT ENCODING handoff:config"),
    *("HSET handoff:config partitions 1", "DEL handoff:config", "GET other:key", "SET other:key 1"),
    *("XADD other:{p00}:inbox * b 1", "HGET other:config partitions", "SUBSCRIBE other", "PUBLISH other x"),
    "XTRIM handoff:actions MAXLEN 0",
)
REFUSED = {
    "health": ("GET handoff:config", "INFO", "CONFIG GET appendonly", "TIME"),
    "handoff-ingress": (
        *("XRANGE handoff:{p00}:inbox - +", "XREAD STREAMS handoff:{p00}:inbox 0", "XDEL handoff:{p00}:inbox 1-0"),
        *("XRANGE handoff:{p00}:dead - +", "XRANGE handoff:{p00}:quarantine - +", "GET handoff:{p00}:owner:a:b"),
        *("XADD handoff:{p00}:dead * a b", "LRANGE handoff:{p00}:lane:crm:a 0 -1", "HGETALL handoff:handlers"),
        *(
            "EVALSHA 0 1 handoff:{p00}:inbox",
            "EVAL x 0",
            "SCRIPT LOAD x",
            "CONFIG GET maxmemory",
            "BRPOP handoff:broker:q 1",
        ),
        *("HSETNX handoff:control:{crm} paused 1", "XADD handoff:actions * who me", "XLEN handoff:{p00}:dead"),
    ),
    "handoff-worker": (
        *("CONFIG GET maxmemory", "XADD handoff:actions * who me", "XREVRANGE handoff:actions + -"),
        *("HDEL handoff:replays r", "HSETNX handoff:control:{crm} paused 1", "HDEL handoff:control:{crm} paused"),
        *("DEL handoff:sweeper", "HDEL handoff:handlers crm", "INFO", "SUBSCRIBE handoff:broker:x"),
        "EVAL x 2 handoff:{p00}:inbox handoff:actions",
        "EVAL x 1 other:key",
        "EVALSHA 0 1 handoff:actions",
    ),
    "handoff-operator": (
        *("LPUSH handoff:broker:handoff.sequence x", "BRPOP handoff:broker:q 1", "SET handoff:sweeper me"),
        *("DEL handoff:{p00}:inbox", "DEL handoff:{p00}:dead", "XTRIM handoff:{p00}:inbox MAXLEN 0"),
        *("HSET handoff:handlers crm {}", "SET handoff:{p00}:lease 1", "HSET handoff:control:{crm} circuit x"),
    ),
    "handoff-monitor": (
        *("XADD handoff:{p00}:inbox * b 1", "XDEL handoff:{p00}:dead 1-0", "HSET handoff:{p00}:state cursor 0"),
        *("SET handoff:{p00}:bell 1", "ZADD handoff:{p00}:ready:crm 0 a", "RPUSH handoff:{p00}:lane:crm:a x"),
        *("HSETNX handoff:control:{crm} paused 1", "XADD handoff:actions * who me", "LPUSH handoff:broker:q x"),
        *(
            "EXPIRE handoff:{p00}:state 1",
            "PERSIST handoff:{p00}:state",
            "COPY handoff:{p00}:state handoff:{p01}:state",
        ),
    ),
}


@pytest.fixture(scope="module", params=servers.KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with servers.running(request.param, locked=True) as url, redis.Redis.from_url(url) as found:
        yield found


@pytest.mark.parametrize("user", REFUSED)
def test_a_user_may_not(client: redis.Redis, user: str) -> None:
    allowed = []
    for command in (*ANYBODY, *REFUSED[user]):
        answer = client.execute_command("ACL", "DRYRUN", user, *command.split())  # type: ignore[no-untyped-call]
        if answer == b"OK":
            allowed.append(command)
    assert allowed == []


def test_the_default_user_and_users_without_a_password_get_in_nowhere(tmp_path: Path) -> None:
    """As the file is shipped: whoever puts it in force and forgets the passwords has a server that lets nobody in."""
    users = tmp_path / "users.acl"
    users.write_text(access.FILE.read_text())
    port = servers.free_port()
    options = ["--port", str(port), "--save", "", "--dir", str(tmp_path), "--aclfile", str(users)]
    with processes.running([servers.binary("valkey"), *options], {}):
        with redis.Redis(port=port, username="health", password="any") as health:
            processes.until(lambda: answers(health), "the server is up")
        for name in (None, "default", *(f"handoff-{role}" for role in access.ROLES)):
            for password in ("", "handoff", None):
                with redis.Redis(port=port, username=name, password=password, retry=ONCE) as nobody:
                    assert not answers(nobody), (name, password)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


def test_a_prefix_is_changed_in_the_file_by_one_substitution() -> None:
    """What README tells and compose does: every key and channel of the file begins with it, and nothing else does."""
    text = access.FILE.read_text()
    changed = re.sub(r"([~&])handoff:", r"\1other:", text)
    assert re.findall(r"[~&](?!other:)\S+", changed) == []
    assert changed.count("other:") == len(re.findall(r"[~&]\S+", text))


def test_a_missing_right_is_told_in_a_line_that_names_the_command_and_the_file(
    client: redis.Redis, tmp_path: Path
) -> None:
    port = client.connection_pool.connection_kwargs["port"]
    url = access.as_user(f"redis://127.0.0.1:{port}/0", "ingress")
    ran = run("actions", folder=tmp_path, HANDOFF_REDIS_URL=url)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line.startswith("Error: HANDOFF_REDIS_URL: its user may not do this: ")
    assert "xrevrange" in line
    assert "deploy/users.acl" in line
    assert any("xrevrange" in told for told in refusals(client))
