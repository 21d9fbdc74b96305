"""Runs whose slot moves to another node of a cluster while their calls are under way: the cluster refuses scripts then
(TRYAGAIN), and none was executed, so no call may be repeated for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog

from tests import servers, topologies
from tests.processes import DEADLINE, until
from tests.runtime_kit import process_of, spec_of
from tests.store_kit import change, partition_on
from worker import AssigneeChange, Context
from worker.core.handlers import HandlerSpec
from worker.runtime.runner import Runner

Body = Callable[[AssigneeChange], Any]


class Move:
    """The move of a key's slot."""

    def __init__(self, cluster: topologies.Cluster, key: str) -> None:
        self._cluster = cluster
        self._key = key
        self.over = threading.Event()

    def begin(self) -> None:
        self._begun = self._cluster.begin_move(self._key)

    def go_on(self) -> None:
        """End it when it has been in somebody's way."""
        until(self._cluster.refusals, "a script is refused")
        self._cluster.end_move(*self._begun)
        self.over.set()


@pytest.fixture(scope="module")
def cluster() -> Iterator[topologies.Cluster]:
    with topologies.cluster(servers.KINDS[0]) as found:
        yield found


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def plain(body: Body, **options: Any) -> HandlerSpec:
    return spec_of(lambda subject, _ctx: body(subject), **options)


def awaited(body: Body, **options: Any) -> HandlerSpec:
    async def handler(subject: AssigneeChange, _ctx: Context) -> None:
        await asyncio.to_thread(body, subject)

    return spec_of(handler, **options)


def rated(body: Body) -> HandlerSpec:
    return awaited(body, rate="500/1s")


def batched(body: Body) -> HandlerSpec:
    def handler(subjects: Sequence[AssigneeChange], _ctx: Context) -> None:
        for subject in subjects:
            body(subject)

    return spec_of(handler, batch=10, batch_wait=0)


@pytest.mark.parametrize("made", [plain, awaited, rated, batched])
def test_what_has_ended_is_written_when_the_slot_has_moved(
    cluster: topologies.Cluster, prefix: str, made: Callable[[Body], HandlerSpec]
) -> None:
    calls: list[int] = []
    with partition_on(cluster.url, prefix) as partition:
        move = Move(cluster, partition.keys.inbox)

        def body(subject: AssigneeChange) -> None:
            calls.append(subject.seq)
            if len(calls) == 1:
                move.begin()
                threading.Thread(target=move.go_on, daemon=True).start()

        partition.sequence(change("a", 1))
        process, _ = process_of(partition, made(body))
        Runner(process, process.registry["crm"], partition.keys.partition).run()
        assert move.over.wait(DEADLINE)
        assert partition.balanced("crm").handlers["crm"].done == 1
        partition.expire_claims()
        Runner(process, process.registry["crm"], partition.keys.partition).run()
    assert calls == [1]


@pytest.mark.parametrize("made", [awaited, rated])
def test_a_call_under_way_is_not_given_up_because_no_other_lane_can_be_claimed(
    cluster: topologies.Cluster, prefix: str, made: Callable[[Body], HandlerSpec], log: list[Any]
) -> None:
    calls: list[int] = []
    with partition_on(cluster.url, prefix) as partition:
        move = Move(cluster, partition.keys.inbox)

        def body(subject: AssigneeChange) -> None:
            calls.append(subject.seq)
            if len(calls) == 1:
                move.begin()
                move.go_on()

        partition.sequence(change("a", 1))
        process, bells = process_of(partition, made(body))
        Runner(process, process.registry["crm"], partition.keys.partition).run()
        assert move.over.wait(DEADLINE)
        assert partition.balanced("crm").handlers["crm"].done == 1
    assert calls == [1]
    assert "claim_failed" in {line["event"] for line in log}
    assert ("crm", 1, 0.0) in bells.rung  # for whoever comes when it has moved
