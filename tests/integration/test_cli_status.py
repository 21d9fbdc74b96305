"""`handoff status`: the numbers of one screen, what is wrong in words, and an exit code that a script can act on."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
from redis import Redis

from tests import servers
from tests.cli_kit import Installation, shape
from tests.store_kit import PATIENT, change, to
from worker.core.dispatch import Terms
from worker.ops.installed import Installed
from worker.ops.status import gather
from worker.settings import Settings
from worker.store.installation import fix_partitions
from worker.store.keys import sweeper
from worker.store.lanes import Action
from worker.store.scripts import Scripts


def problems(installation: Installation, **environment: str) -> list[str]:
    ran = installation.run("status", "--json", **environment)
    found: list[str] = ran.json["problems"]
    assert ran.code == (1 if found else 0)
    assert ran.json["healthy"] is not bool(found)
    return found


def claim_for_an_hour(installation: Installation, team: str) -> None:
    """The team's lane is being worked on, however long the test takes."""
    partition = installation.of(team)
    claim = partition.lanes().claim(lanes=1, jobs=1, per_lane=1)
    assert [lane.lane for lane in claim.lanes] == [team]
    installation.client.zadd(partition.keys.ready("crm"), {team: claim.now + 3_600_000})


def test_all_is_well(installation: Installation) -> None:
    installation.start("crm")
    installation.deliver("acme", change("acme", 1), change("acme", 2))
    installation.settle("acme", done=1)
    ran = installation.run("status")
    assert (ran.code, ran.err) == (0, "")
    assert "Nothing needs a person." in ran.out
    assert "4 partitions · swept" in ran.out
    assert re.search(r"accepted 2 .*unread 0 .*held 0 ", ran.out)
    assert problems(installation) == []


def test_blocked_lanes_have_a_column_and_need_a_person(installation: Installation) -> None:
    installation.start("crm")
    installation.deliver("acme", change("acme", 1))
    partition = installation.of("acme")
    partition.client.hset(partition.keys.blocked("crm"), "acme", "{}")
    partition.client.zadd(partition.keys.ready("crm"), {"acme": "+inf"})
    assert problems(installation) == [
        "handler crm has 1 blocked or paused lane: see `handoff lanes list`, then `unblock` or `resume`"
    ]
    assert re.search(r"crm +1 .* 1 +closed *$", installation.run("status").out, re.MULTILINE)


def test_every_number(installation: Installation) -> None:
    installation.start("crm", "mail")
    installation.deliver("acme", *[change("acme", seq) for seq in (1, 2, 3)], change("acme", 2), b"[]")
    installation.settle("acme", done=1)
    installation.deliver("beta", change("beta", 1), route=to("crm", "mail"))
    installation.bury("beta", "mail")
    installation.settle("beta", "crm", action=Action.RETRY, delay_ms=3_600_000, attempts=1)
    installation.deliver("gamma", change("gamma", 5), policy=PATIENT)
    installation.of("delta").append(change("delta", 1))
    document = installation.run("status", "--json").json
    deliveries = document["deliveries"]
    counted = {
        name: deliveries[name] for name in ("accepted", "unread", "held", "released", "duplicates", "quarantined")
    }
    assert counted == {"accepted": 8, "unread": 1, "held": 1, "released": 4, "duplicates": 1, "quarantined": 1}
    assert deliveries["unread_ms"] >= 0
    assert deliveries["held_ms"] >= 0
    crm, mail = document["handlers"]
    names = ("waiting", "done", "dead", "retried", "due", "backing_off", "claimed")
    assert [crm[name] for name in names] == [3, 1, 0, 1, 1, 1, 0]
    assert [mail[name] for name in names] == [0, 0, 1, 0, 0, 0, 0]
    assert crm["oldest_ms"] >= crm["overdue_ms"] >= 0
    assert mail["oldest_ms"] is None
    assert (document["dead"], document["quarantine"], document["drift"]) == (1, 1, [])
    claim_for_an_hour(installation, "acme")
    crm = installation.run("status", "--json").json["handlers"][0]
    assert [crm["due"], crm["claimed"]] == [0, 1]


def test_the_shape_of_the_json(installation: Installation) -> None:
    installation.start("crm")
    deliveries: dict[str, Any] = dict.fromkeys(
        ("accepted", "unread", "held", "duplicates", "quarantined", "proofs"), "int"
    )
    deliveries |= dict.fromkeys(("released", "late", "stale", "twins", "gaps", "overflowed"), "int")
    handler: dict[str, Any] = dict.fromkeys(
        ("waiting", "done", "discarded", "conflated", "dead", "retried", "due"), "int"
    )
    handler |= {"name": "str", "queue": "str", "backing_off": "int", "claimed": "int", "blocked": "int"}
    handler["circuit"] = dict.fromkeys(("open_ms", "next_try_ms", "error", "paused_ms", "paused_by"))
    handler["circuit"] |= {"state": "str", "failures": "int"}
    assert shape(installation.run("status", "--json").json) == {
        "healthy": "bool",
        "problems": [],
        "server": {
            "kind": "str",
            "version": "str",
            "used_memory": "int",
            "max_memory": "int",
            "aof": "bool",
            "writable": "bool",
        },
        "partitions": "int",
        "sweeping": "bool",
        "deliveries": deliveries | {"unread_ms": None, "held_ms": None},
        "handlers": [handler | {"overdue_ms": None, "oldest_ms": None}],
        "dead": "int",
        "quarantine": "int",
        "backlog": dict.fromkeys(("events", "max_events", "bytes", "max_bytes", "memory", "memory_limit"), "int"),
        "drift": [],
        "queues": dict.fromkeys(("handoff.sequence", "handoff.deliver", "q.crm"), "int"),
        "workers": [],
    }


def test_nothing_started_yet(installation: Installation) -> None:
    (problem,) = problems(installation)
    assert problem.startswith("nothing has started here yet")
    assert "nothing has started here yet" in installation.run("status").out


def test_nobody_sweeps(installation: Installation) -> None:
    installation.start("crm")
    assert problems(installation) == []
    installation.client.delete(sweeper(installation.settings.prefix))
    assert problems(installation) == ["no worker seems to run: nobody sweeps"]


def test_a_handler_that_no_worker_announces(installation: Installation) -> None:
    installation.start("crm")
    installation.deliver("acme", change("acme", 1), change("acme", 2), route=to("gone"))
    assert problems(installation) == [
        "handler gone has 2 jobs but no worker announces it: is its module in HANDOFF_HANDLERS?"
    ]
    installation.settle("acme", "gone", done=1)
    installation.settle("acme", "gone", discarded=1)
    assert problems(installation) == []


def test_what_was_conflated_is_shown_where_there_is_any(installation: Installation) -> None:
    installation.start("crm")
    assert "conflated" not in installation.run("status").out
    installation.deliver("acme", *(change("acme", seq) for seq in (1, 2, 3)), route=to(Terms("crm", conflate=True)))
    installation.of("acme").lanes("crm", conflate=True).claim(lanes=1, jobs=1, per_lane=1)
    (line,) = [line for line in installation.run("status").out.splitlines() if line.startswith("handler")]
    assert "conflated" in line
    (handler,) = installation.run("status", "--json").json["handlers"]
    assert (handler["conflated"], handler["waiting"], handler["discarded"]) == (2, 1, 0)
    assert installation.run("audit").code == 0
    (numbers,) = [
        check["numbers"]
        for check in installation.run("audit", "--json").json["checks"]
        if check["handler"] == "crm" and check["numbers"]["routed"]
    ]
    assert (numbers["routed"], numbers["conflated"], numbers["waiting"]) == (3, 2, 1)


def test_dead_letters_need_a_person(installation: Installation) -> None:
    installation.start("crm")
    installation.deliver("acme", change("acme", 1))
    installation.bury("acme")
    assert problems(installation) == [
        "1 dead letter to look at: see `handoff dead list`, then `handoff dead retry` or `drop`"
    ]


def test_quarantined_deliveries_need_a_person(installation: Installation) -> None:
    installation.start("crm")
    installation.deliver("acme", b"[]", b"{")
    assert problems(installation) == [
        "2 quarantined deliveries to look at: see `handoff quarantine list`, then `handoff quarantine retry` or `drop`"
    ]


def test_a_server_that_takes_no_writes() -> None:
    with servers.running("valkey") as url, Redis.from_url(url) as client:
        found = Installed(Settings(redis_url=url), client, Scripts(client))
        assert gather(found).server.writable
        fix_partitions(client, found.settings)
        client.replicaof("127.0.0.1", servers.free_port())
        status = gather(found.again())
        assert not status.server.writable
        assert status.problems[0].startswith("the state server takes no writes")


def test_bounds_that_are_reached_or_near(installation: Installation) -> None:
    """By what waits: a body that only a dead letter keeps is not backlog."""
    installation.start("crm")
    installation.deliver("acme", *(change("acme", seq, pad=10_000) for seq in range(1, 11)))
    installation.bury("acme")
    full, near = problems(installation, HANDOFF_MAX_BACKLOG="9", HANDOFF_MAX_BACKLOG_BYTES="100000")[1:]
    assert full == ("deliveries are answered 503: 9 accepted deliveries wait, of 9 that may (HANDOFF_MAX_BACKLOG)")
    assert re.fullmatch(
        r"deliveries will soon be answered 503: 9\d\.\d KiB of accepted deliveries wait, of 97.7 KiB that may .*", near
    )
    assert len(problems(installation, HANDOFF_MAX_BACKLOG="11", HANDOFF_MAX_BACKLOG_BYTES="200000")) == 1
    document = installation.run("status", "--json").json
    assert document["backlog"]["events"] == 9
    assert 90_000 < document["backlog"]["bytes"] < 100_000
    assert "backlog 9 (9" in installation.run("status").out


def test_a_server_that_is_nearly_full() -> None:
    with servers.running("valkey") as url, Redis.from_url(url) as client:
        found = Installed(Settings(redis_url=url, max_memory=0.5), client, Scripts(client))
        fix_partitions(client, found.settings)
        client.config_set("maxmemory", 2 * client.info("memory")["used_memory"])
        (*_, problem) = gather(found.again()).problems
        assert problem.endswith("(maxmemory), and 50% is the bound (HANDOFF_MAX_MEMORY)")


def test_books_that_do_not_add_up(installation: Installation) -> None:
    installation.start("crm")
    keys = installation.of("acme").keys
    installation.client.hincrby(keys.ledger, "released", 1)
    assert problems(installation) == [
        f"the books do not add up in partition {keys.partition}: see `handoff audit`",
    ]


def test_work_that_nobody_takes(installation: Installation) -> None:
    """Somebody sweeps, so bells ring, but no worker reads the handler's queue."""
    installation.start("crm")
    installation.deliver("acme", change("acme", 1))
    installation.of("acme").expire_claims()
    (problem,) = problems(installation)
    assert problem.startswith("handler crm has had work for ")
    assert problem.endswith("does a worker read the queue q.crm?")
    claim_for_an_hour(installation, "acme")
    assert problems(installation) == []


def test_deliveries_that_nobody_sequences(installation: Installation) -> None:
    installation.start("crm")
    keys = installation.of("acme").keys
    installation.client.xadd(keys.inbox, {"b": change("acme", 1)}, id="1-1")
    assert problems(installation) == [
        "deliveries wait and nobody sequences them: does a worker read the queue handoff.sequence?"
    ]
    installation.of("acme").acquire()
    installation.client.persist(keys.lease)  # a test may take longer than a lease lasts
    assert problems(installation) == []


def test_doorbells_are_counted_where_they_can_be(installation: Installation) -> None:
    installation.start("crm")
    installation.client.rpush(f"{installation.settings.prefix}:broker:q.crm", "a bell", "another")
    assert installation.run("status", "--json").json["queues"]["q.crm"] == 2
    elsewhere = installation.run("status", "--json", HANDOFF_BROKER_URL="amqp://127.0.0.1:1//")
    assert (elsewhere.code, elsewhere.json["queues"]) == (0, None)


def test_watch_and_json_do_not_go_together(installation: Installation) -> None:
    assert installation.run("status", "--watch", "--json").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_watch_shows_what_changes_and_ends_when_interrupted(installation: Installation) -> None:
    installation.start("crm")
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.ops.cli", "status", "--watch"],
        cwd=installation.folder,
        env=os.environ | installation.environment | {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"},
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    try:
        _read_until(terminal, r"accepted\D+0 ")
        installation.deliver("acme", change("acme", 1))
        _read_until(terminal, r"accepted\D+1 ")
        process.send_signal(signal.SIGINT)
        assert _read_until_the_end_of(process, terminal) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _read_until_the_end_of(process: subprocess.Popen[bytes], terminal: int) -> int | None:
    """Its exit code. A terminal that nobody reads takes a screen or two, and then the process waits."""
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        if select.select([terminal], [], [], 0.05)[0]:
            with suppress(OSError):  # it is closed by now
                os.read(terminal, 65536)
    return process.poll()


def _read_until(terminal: int, pattern: str) -> None:
    """Read what is shown until ``pattern`` is, without the terminal's escape sequences."""
    shown, end = "", time.monotonic() + 30
    while not re.search(pattern, shown):
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], shown
        shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(terminal, 65536).decode(errors="replace"))
