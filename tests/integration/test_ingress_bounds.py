"""The real ingress over each of its bounds and back, with a sequencer and a runner that drain: nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ingress_kit import FrailServer, Ingress, frail_server, ingress
from tests.processes import until
from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change, partition_on
from worker import AssigneeChange, Context
from worker.runtime.process import Process
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer
from worker.store.keys import PartitionKeys

pytestmark = pytest.mark.server

TEAMS = "abc"
EVENTS = 90
PAD = 100_000
MIB = 1024 * 1024


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FrailServer]:
    with frail_server(tmp_path) as found:
        yield found


class Whole:
    """An ingress, and a worker of one partition that works when it is told to."""

    def __init__(self, door: Ingress, partition: Partition) -> None:
        self.door = door
        self.calls: list[tuple[str, int]] = []
        self.partition = partition
        self.process: Process = process_of(partition, spec_of(self.handle))[0]

    def handle(self, subject: AssigneeChange, _ctx: Context) -> None:
        self.calls.append((subject.team_id, subject.seq))

    def work(self) -> None:
        Sequencer(self.process, self.partition.keys.partition).run()
        Runner(self.process, self.process.registry["crm"], self.partition.keys.partition).run()

    def send(self, numbers: range) -> tuple[list[int], list[int]]:
        """Post these events; those that were accepted and those that are to come again, in order."""
        accepted: list[int] = []
        refused: list[int] = []
        for number in numbers:
            team, seq = TEAMS[number % len(TEAMS)], number // len(TEAMS) + 1
            answer = self.door.post(change(team, seq, pad=PAD, assignee=f"m{seq}"))
            if answer.status_code == 202:
                accepted.append(number)
            else:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["retry-after"]) > 0
                refused.append(number)
        return accepted, refused

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.door.process.output.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@contextmanager
def start(server: FrailServer, **settings: str) -> Iterator[Whole]:
    with (
        ingress(server.url, "t", PARTITIONS="1", LOG_FORMAT="json", **settings) as door,
        partition_on(server.url, "t") as partition,
    ):
        partition.settings.partitions = 1
        partition.settings.gap_wait = 0.0
        yield Whole(door, Partition(partition.settings, partition.client, PartitionKeys("t", 0)))


@pytest.mark.parametrize(
    ("code", "settings", "maxmemory"),
    [
        ("backlog_full", {"MAX_BACKLOG": "40"}, 0),
        ("backlog_bytes_full", {"MAX_BACKLOG_BYTES": "4MiB"}, 0),
        ("memory_full", {"MAX_MEMORY": "0.7"}, 10 * MIB),
    ],
)
def test_over_a_bound_and_back(server: FrailServer, code: str, settings: dict[str, str], maxmemory: int) -> None:
    """What was accepted is handled once and in order, and what was refused goes in when it comes again."""
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", maxmemory)
    with start(server, **settings) as whole:
        door = whole.door
        accepted, refused = whole.send(range(EVENTS))
        assert accepted == list(range(len(accepted))), "closed is closed, as long as nobody works"
        assert len(accepted) > 20
        assert len(refused) > 20
        again = whole.send(range(refused[0], refused[0] + 1))
        assert again == ([], refused[:1])
        assert door.post(change("a", 1)).json()["error"]["code"] == code
        assert door.metric(f'handoff_ingress_closed{{reason="{code}"}}') == 1
        assert door.ready(), "it is a bound, not a fault"
        if code == "backlog_full":
            assert len(accepted) == 40

        def goes_in(number: int) -> bool:
            whole.work()
            return bool(whole.send(range(number, number + 1))[0])

        for number in refused:
            until(lambda number=number: goes_in(number), f"event {number} goes in")
        until(lambda: whole.work() or len(whole.calls) >= EVENTS, "all is handled")
        whole.work()
        for team in TEAMS:
            assert [seq for name, seq in whole.calls if name == team] == list(range(1, EVENTS // len(TEAMS) + 1))
        assert len(whole.calls) == EVENTS
        whole.partition.balanced("crm")
        assert door.metric(f'handoff_ingress_closed{{reason="{code}"}}') == 0
        closed, opened = whole.logged("closed"), whole.logged("opened")
        assert [line["reason"] for line in closed] == [line["reason"] for line in opened] == [code] * len(closed)
        assert 0 < len(closed) < 5, "once each time, not for each delivery"
