"""Runs whose state server, or the one of several that has the rates, is away while their calls are under way: what ends
is written as long as the leases hold, and calls are not repeated for what could do without that server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self
from unittest import mock

import pytest
import structlog

from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change
from worker import AssigneeChange, Context
from worker.core.handlers import HandlerSpec
from worker.errors import StoreUnavailable
from worker.runtime.runner import Runner
from worker.store.rate import RateStore, Taken
from worker.store.scripts import Scripts, Word


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


class Away:
    """Scripts of these names are not answered while it is ``set``, of which ``refused`` says that it was noticed."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.set = threading.Event()
        self.refused = threading.Event()

    def __enter__(self) -> Self:
        run = Scripts.run

        def refusing(scripts: Scripts, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
            if name in self._names and self.set.is_set():
                self.refused.set()
                raise StoreUnavailable("gone")
            return run(scripts, name, keys, args)

        self._patch = mock.patch.object(Scripts, "run", refusing)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


def threaded(calls: list[int], away: Away) -> HandlerSpec:
    """A call that goes on until a claim, of other lanes, has failed."""

    def handler(subject: AssigneeChange, _ctx: Context) -> None:
        calls.append(subject.seq)
        away.set.set()
        assert away.refused.wait(10)

    return spec_of(handler, concurrency=2)


def test_a_call_that_ends_while_its_lease_holds_is_written_though_no_more_can_be_claimed(
    partition: Partition, log: list[Any]
) -> None:
    calls: list[int] = []
    partition.sequence(change("a", 1))
    with Away("claim") as away:
        process, bells = process_of(partition, spec := threaded(calls, away))
        Runner(process, spec, 1).run()
    assert partition.balanced("crm").handlers["crm"].done == 1
    assert ("crm", 1, 0.0) in bells.rung
    assert [line["event"] for line in log] == ["claim_failed"]


def test_a_call_is_cut_off_when_its_lease_can_not_be_kept(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    """By then others may have the lane, and call it again."""
    monkeypatch.setattr("worker.store.lanes.LEASE_MS", 200)
    cut = threading.Event()
    partition.sequence(change("a", 1))
    with Away("claim", "renew") as away:

        async def handler(_subject: AssigneeChange, _ctx: Context) -> None:
            away.set.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cut.set()
                raise

        process, _ = process_of(partition, spec := spec_of(handler))
        Runner(process, spec, 1).run()
    assert cut.wait(10)
    assert partition.balanced("crm").handlers["crm"].waiting == 1
    assert [line["event"] for line in log] == ["claim_failed", "runner_store_unavailable"]


def test_calls_that_can_not_be_given_back_do_not_end_a_run(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    """The rate's key may be another server's, which is away; the lane is in hand, and its server well."""
    calls: list[int] = []
    take = RateStore.take

    def too_many(store: RateStore, wanted: int, *rest: Any) -> Taken:
        return take(store, wanted + 1, *rest)

    def gone(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(RateStore, "take", too_many)
    monkeypatch.setattr(RateStore, "give_back", gone)
    partition.sequence(change("a", 1))
    process, _ = process_of(partition, spec := spec_of(lambda subject, _: calls.append(subject.seq), rate="500/1s"))
    Runner(process, spec, 1).run()
    assert calls == [1]
    assert partition.balanced("crm").handlers["crm"].done == 1
    assert {line["event"] for line in log} == {"calls_not_given_back"}
