"""What one event costs an idle system: round trips and bells, counted, for somebody waits for each of them.

A bound that is to be raised has to be worth that: one is a tenth to a third of a millisecond.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from ingress.signature import HEADER, sign
from tests.processes import until
from tests.road import Road, running_road
from tests.runtime_kit import print_nothing, process_of, spec_of
from tests.store_kit import Partition, change
from worker.runtime.process import Bells, Process
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer
from worker.store import scripts

CRM = spec_of(print_nothing)
MAIL = spec_of(print_nothing, name="mail", queue="slow")
NAMES = {scripts.digest(scripts.source(name)): name for name in (*scripts.NAMES, *scripts.LOADED)}
WORD = re.compile(rb"\r\n\$(?:7\r\nEVALSHA\r\n\$40\r\n([0-9a-f]{40})|\d+\r\n([A-Z]+))")


@contextmanager
def written() -> Iterator[list[str]]:
    """What is written to servers in this process, each time: the script's name, or the first command."""
    found: list[str] = []
    send = redis.Connection.send_packed_command

    def sending(self: redis.Connection, command: Any, check_health: bool = True) -> None:
        text = command if isinstance(command, bytes) else b"".join(command)
        match = WORD.search(text)
        assert match is not None
        found.append(NAMES[match[1].decode()] if match[1] else match[2].decode())
        send(self, command, check_health)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(redis.Connection, "send_packed_command", sending)
        yield found


@pytest.fixture
def process(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> Process:
    """One with real bells, that has made its connections, and knows the scripts and who is paused."""
    monkeypatch.setattr("worker.runtime.gate.FRESH", 60.0)  # what is known of a circuit stays so, however slow this is
    partition.settings.broker_url = None
    partition.settings.gap_wait = 0.0
    partition.settings.archive_events = 1000
    made, _ = process_of(partition, CRM, MAIL)
    made.bells = Bells(partition.settings)
    partition.append(change("a", 1))
    Sequencer(made, 1).run()
    for spec in (CRM, MAIL):
        assert Runner(made, spec, 1).run() == 1
    return made


def test_a_sequencer_s_round_trips(process: Process, partition: Partition) -> None:
    """The lease comes with the deliveries, and the bells go with the commit. Handlers begin after three."""
    partition.append(change("a", 2, assignee="m2"))
    with written() as found:
        assert Sequencer(process, 1).run() == 1
    assert found[:3] == ["acquire", "MGET", "commit"]
    assert sorted(found[3:]) == ["release", "trim"]
    assert [partition.client.llen(f"{partition.settings.prefix}:broker:{queue}") for queue in ("q", "slow")] == [2, 2]


def test_a_runner_s_round_trips(process: Process, partition: Partition) -> None:
    """The bodies come with the claim. The call begins after it, or after a look at the handler's circuit, which is good
    for a quarter of a second; the last claim says that nothing else is ready."""
    partition.append(change("a", 2, assignee="m2"))
    Sequencer(process, 1).run()
    with written() as found:
        assert Runner(process, CRM, 1).run() == 1
    assert [name for name in found if name != "HMGET"] == ["claim", "settle", "claim"]
    assert found.count("HMGET") <= 1


def test_on_the_whole_road_no_bell_is_a_command_of_its_own(tmp_path: Path) -> None:
    """Three bells an event: the ingress's comes with what it stores, and both handlers' with the commit."""
    with running_road(tmp_path, handlers="tests.integration.handing_handlers") as road:
        (worker,) = road.workers
        worker.wait_for_output("ready.", 60)
        handle(road, 1)  # the first event of a team waits, and has a bell for then
        counts: Counter[str] = Counter()
        with road.client.monitor() as monitor:
            for seq in range(2, 7):
                handle(road, seq)
            road.client.echo("done")
            for command in monitor.listen():
                words = command["command"].split(" ")
                if words[0] == "ECHO":
                    break
                if command["client_type"] != "lua":
                    counts[NAMES.get(words[1], "?") if words[0] == "EVALSHA" else words[0]] += 1
        assert counts["ring"] == counts["XADD"] == 5
        assert counts["LPUSH"] < 5, "a bell that is rung is another round trip; only the sweeper does, if it takes long"
        assert 5 <= counts["commit"] <= 6
        worker.wait_for_output("<1 bell, 0 left>", 60)


def handle(road: Road, seq: int) -> None:
    """Post an event, and wait until both handlers have been called."""
    body = change("acme", seq, assignee=f"m{seq}")
    headers = {HEADER: sign(body, road.secret, road.now())}
    assert road.http.post("/webhooks/inbox", content=body, headers=headers).status_code == 202
    output = road.workers[0]
    until(lambda: f"<one {seq}>" in output.output and f"<other {seq}>" in output.output, "it is handled")
