"""Each check of ``handoff doctor`` on a table of facts: where its limits are, and what no server can be made to say."""

from __future__ import annotations

from typing import Any

import pytest

from worker.ops.doctor import clock_checks, durability_checks, fleet_checks, memory_checks, secret_checks, server_checks
from worker.ops.doctor.asking import address_of, is_local
from worker.ops.doctor.examining import CHECKS, Check
from worker.ops.doctor.facts import Broker, Clock, Facts, Installed, Machine, Node, Worker
from worker.ops.doctor.findings import Finding, Level, document, exit_code
from worker.settings import Settings

GIB = 1 << 30
LONG = "ibt_wh_Qm5vdCBhIHNlY3JldCBvZi"


def facts(settings: dict[str, Any] | None = None, **more: Any) -> Facts:
    return Facts(Settings(webhook_secret=[LONG], **(settings or {})), **more)


def node(
    *, config: dict[str, str] | None = None, clock: Clock | None = None, machine: Machine | None = None, **info: Any
) -> Node:
    usual = {"redis_version": "7.2.4", "valkey_version": "9.1.2", "role": "master", "aof_enabled": 1}
    return Node("host:6379", info=usual | info, config=config or {}, clock=clock, machine=machine)


def worst(check: Check, found: Facts) -> Level | None:
    levels = [finding.level for finding in check(found)]
    return next((level for level in (Level.UNKNOWN, Level.UNSAFE, Level.WARN, Level.OK) if level in levels), None)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"redis_version": "7.0.0", "valkey_version": ""}, Level.OK),
        ({"redis_version": "6.2.14", "valkey_version": ""}, Level.UNSAFE),
        ({"redis_version": "10.0", "valkey_version": ""}, Level.OK),
        ({"valkey_version": "7.2.5"}, Level.OK),
        ({"valkey_version": "7.1.9"}, Level.UNSAFE),
        ({"redis_version": "nonsense", "valkey_version": ""}, Level.UNSAFE),
    ],
)
def test_versions(info: dict[str, str], expected: Level) -> None:
    given = {name: value for name, value in info.items() if value}
    base = node(**given)
    kept = {name: value for name, value in base.info.items() if info.get(name) != ""}
    assert worst(server_checks.version, facts(nodes=[Node("h:1", info=kept)])) is expected


@pytest.mark.parametrize(
    ("used", "most", "total", "expected"),
    [
        (1, 4, 16, Level.OK),
        (3.1, 4, 16, Level.WARN),
        (3.5, 4, 16, Level.UNSAFE),
        (1, 17, 16, Level.UNSAFE),
        (1, 0, 16, Level.WARN),
        (15, 0, 16, Level.UNSAFE),
        (1, 0, 0, Level.WARN),
    ],
)
def test_memory(used: float, most: float, total: float, expected: Level) -> None:
    figures = {"used_memory": used, "maxmemory": most, "total_system_memory": total}
    given = node(**{name: int(value * GIB) for name, value in figures.items()})
    assert worst(memory_checks.room, facts(nodes=[given])) is expected


@pytest.mark.parametrize(
    ("machine", "used", "expected"),
    [
        (None, 8, None),
        (Machine(None, None), 8, None),
        (Machine(6 * GIB, 1), 8, None),
        (Machine(3 * GIB, 1), 8, Level.WARN),
        (Machine(6 * GIB, 0), 8, Level.WARN),
        (Machine(6 * GIB, 0), 0, None),
        (Machine(6 * GIB, 2), 0, Level.WARN),
    ],
)
def test_the_machine_of_a_server_here(machine: Machine | None, used: int, expected: Level | None) -> None:
    given = node(machine=machine, used_memory=used * GIB)
    assert worst(memory_checks.machine, facts(nodes=[given])) is expected


@pytest.mark.parametrize(
    ("ahead", "error", "expected"),
    [
        (0, 1, Level.OK),
        (-1999, 0, Level.OK),
        (2000, 0, Level.WARN),
        (2000, 100, Level.OK),
        (-30_000, 0, Level.UNSAFE),
        (31_000, 2000, Level.WARN),
    ],
)
def test_a_clock_is_off_by_what_the_round_trip_leaves_no_doubt_about(
    ahead: float, error: float, expected: Level
) -> None:
    assert worst(clock_checks.server, facts(nodes=[node(clock=Clock(ahead, error))])) is expected


def test_the_clock_of_a_worker() -> None:
    workers = [Worker("quick@here", {}, (), 90_000.0), Worker("right@here", {}, (), 3.0)]
    [finding] = clock_checks.workers(facts(installed=Installed(4, workers=workers)))
    assert (finding.level, finding.where) == (Level.UNSAFE, "quick@here")
    assert "90.0 s ahead" in finding.what


@pytest.mark.parametrize(
    ("status", "value", "config", "expected"),
    [
        ("aof_last_write_status", "ok", {}, Level.OK),
        ("aof_last_write_status", "err", {}, Level.UNSAFE),
        ("aof_last_bgrewrite_status", "err", {}, Level.WARN),
        ("rdb_last_bgsave_status", "err", {}, Level.UNSAFE),
        ("rdb_last_bgsave_status", "err", {"stop-writes-on-bgsave-error": "no"}, Level.WARN),
    ],
)
def test_a_server_whose_disk_failed(status: str, value: str, config: dict[str, str], expected: Level) -> None:
    assert worst(durability_checks.accepting, facts(nodes=[node(config=config, **{status: value})])) is expected


@pytest.mark.parametrize(
    ("config", "info", "expected"),
    [
        ({"appendfsync": "always", "no-appendfsync-on-rewrite": "no"}, {}, Level.OK),
        ({"appendfsync": "always", "no-appendfsync-on-rewrite": "yes"}, {}, Level.UNSAFE),
        ({"appendfsync": "everysec"}, {}, Level.UNSAFE),
        ({}, {}, Level.UNSAFE),
        ({"appendfsync": "always"}, {"aof_enabled": 0}, Level.UNSAFE),
        ({"appendfsync": "always"}, {"valkey_version": "7.1.0"}, Level.UNSAFE),
    ],
)
def test_what_fsync_needs(config: dict[str, str], info: dict[str, Any], expected: Level) -> None:
    given = [node(config=config, **info)]
    assert worst(durability_checks.fsync, facts({"durability": "fsync"}, nodes=given)) is expected
    assert worst(durability_checks.fsync, facts(nodes=given)) is None


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (LONG, Level.OK),
        ("ibt_wh_0123456789abcdef", Level.OK),
        ("ibt_wh_0123456789abcde", Level.UNSAFE),
        ("0123456789abcdef", Level.OK),
        ("ababababababababab", Level.UNSAFE),
    ],
)
def test_a_secret_is_as_long_as_what_of_it_is_random(secret: str, expected: Level) -> None:
    given = Facts(Settings(webhook_secret=[LONG, secret], team_secrets=[f"acme={secret}"]))
    assert worst(secret_checks.webhook, given) is expected
    assert worst(secret_checks.teams, given) is expected
    assert secret not in str([*secret_checks.webhook(given), *secret_checks.teams(given)])


def handlers(**described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(described)


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (Installed(4, sweeping=True), Level.OK),
        (Installed(4, handlers(crm={"queue": "q"}), sweeping=True), Level.OK),
        (Installed(4, handlers(crm={"queue": "q", "newer": 1}), sweeping=True), Level.OK),
        (Installed(4, handlers(crm={"queue": "other"}), sweeping=True), Level.UNSAFE),
        (Installed(4, handlers(crm={"queue": "other"})), Level.WARN),
        (Installed(4, handlers(crm={"queue": "q"}, old={}), sweeping=True), Level.WARN),
        (Installed(4, handlers(crm={"queue": "q"}, old={}), sweeping=True, waiting={"old": 3}), Level.UNSAFE),
        (Installed(4, handlers(old={}), sweeping=True), Level.UNSAFE),
        (Installed(4, workers=[Worker("a", {"crm": "1"}, (), 0), Worker("b", {"crm": "1"}, (), 0)]), Level.OK),
        (Installed(4, workers=[Worker("a", {"crm": "1"}, (), 0), Worker("b", {"crm": "2"}, (), 0)]), Level.UNSAFE),
        (Installed(4, workers=[Worker("a", {"crm": "1"}, (), 0), Worker("b", {}, (), 0)]), Level.UNSAFE),
        (Installed(None), None),
        (Installed(error="no"), None),
    ],
)
def test_handlers_that_differ(installed: Installed, expected: Level | None) -> None:
    given = facts(installed=installed, defined=handlers(crm={"queue": "q"}))
    assert worst(fleet_checks.handlers, given) is expected


def test_a_queue_that_no_worker_reads() -> None:
    crm = handlers(crm={"queue": "slow"})
    reads = Worker("a", {}, ("handoff.sequence", "handoff.deliver", "slow"), 0)
    assert worst(fleet_checks.queues, facts(installed=Installed(4, crm, workers=[reads]))) is None
    other = Worker("a", {}, ("handoff.deliver",), 0)
    [finding] = fleet_checks.queues(facts(installed=Installed(4, crm, workers=[other])))
    assert "slow" in finding.what
    assert worst(fleet_checks.queues, facts(installed=Installed(4, crm, bells={"slow": 12}))) is None
    assert worst(fleet_checks.queues, facts(installed=Installed(4, crm, bells={"slow": 5000}))) is Level.UNSAFE


def test_a_broker_inside_of_each_process_is_none() -> None:
    given = facts({"broker_url": "memory://"}, broker=Broker("memory"))
    assert worst(fleet_checks.broker, given) is Level.UNSAFE


def test_connections() -> None:
    assert worst(server_checks.connections, facts(nodes=[node(connected_clients=799, maxclients=1000)])) is None
    assert worst(server_checks.connections, facts(nodes=[node(connected_clients=800, maxclients=1000)])) is Level.WARN
    assert worst(server_checks.connections, facts(nodes=[node(config={"timeout": "30"})])) is Level.WARN


def test_every_node_is_looked_at() -> None:
    """A cluster has several, and one of them is enough to lose what is on it."""
    given = facts(nodes=[node(), node(aof_enabled=0), Node("other:6379", error="does not answer")])
    assert [finding.level for finding in durability_checks.append_only(given)] == [Level.OK, Level.UNSAFE]
    assert worst(server_checks.reachable, given) is Level.UNKNOWN


def test_without_anything_known_nothing_breaks() -> None:
    for check in CHECKS:
        list(check(facts(nodes=[Node("h:1")])))
        list(check(facts()))


@pytest.mark.parametrize(
    ("levels", "code"),
    [
        ([], 0),
        ([Level.OK, Level.WARN], 0),
        ([Level.OK, Level.UNSAFE, Level.WARN], 1),
        ([Level.UNSAFE, Level.UNKNOWN], 2),
    ],
)
def test_exit_codes(levels: list[Level], code: int) -> None:
    findings = [Finding(level, "check", "what") for level in levels]
    assert exit_code(findings) == code
    assert document(findings)["safe"] is (code == 0)


@pytest.mark.parametrize(
    ("url", "address", "local"),
    [
        ("redis://user:geheim@10.0.0.5:6380/0", "10.0.0.5:6380", False),
        ("rediss://:geheim@[::1]/0", "[::1]:6379", True),
        ("redis://localhost", "localhost:6379", True),
        ("unix:///run/redis.sock?password=geheim", "/run/redis.sock", True),
        ("redis+socket:///run/redis.sock?virtual_host=0", "/run/redis.sock", True),
        ("amqp://user:geheim@mq/vhost", "mq", False),
    ],
)
def test_an_address_has_no_secret(url: str, address: str, local: bool) -> None:
    assert (address_of(url), is_local(address)) == (address, local)
