"""What a runner leaves to others: lanes behind a slow call, a scarce rate, work in a process that has to end."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import billiard.common
import pytest
import structlog

from tests.runtime_kit import loop, process_of, spec_of
from tests.store_kit import Partition, change, to
from worker import AssigneeChange, Context
from worker.core.dispatch import Terms
from worker.core.handlers import HandlerSpec
from worker.core.lanes import OrderBy
from worker.runtime.loop import process_loop
from worker.runtime.runner import Runner
from worker.store.keys import PartitionKeys, rate


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def claimed_beside(partition: Partition) -> int:
    claims = partition.client.hvals(partition.keys.claims("crm"))
    return sum(not claim.startswith(b"0 ") for claim in claims) - 1


@pytest.mark.parametrize("fails", [False, True])
def test_little_waits_behind_a_slow_call(partition: Partition, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """Other processes may be idle: what is claimed here is kept from them. What was learnt outlives the run."""
    monkeypatch.setattr("worker.runtime.claiming.CLAIM_SECONDS", 0.01)
    monkeypatch.setattr("worker.runtime.runner.SLICE", 0.0)
    partition.sequence(*(change(f"t{number}", 1) for number in range(20)))
    beside: list[int] = []

    def slow(subject: AssigneeChange, ctx: Context) -> None:
        beside.append(claimed_beside(partition))
        began = time.monotonic()
        while time.monotonic() < began + 0.03:
            pass
        if fails:
            raise ValueError

    process, bells = process_of(partition, spec := spec_of(slow))
    Runner(process, spec, 1).run()
    assert (beside, bells.rung[0]) == ([0], ("crm", 1, 0.0))
    process.claim_sizes["crm"] = 16  # it was fast so far
    for _ in range(3):
        Runner(process, spec, 1).run()
    assert beside == [0, 15, 0, 0]


def test_a_fast_handler_is_known_to_be_fast_at_its_next_bell(partition: Partition) -> None:
    partition.sequence(*(change(f"t{number}", 1) for number in range(200)))
    process, _ = process_of(partition, spec := spec_of(lambda subject, ctx: None))
    Runner(process, spec, 1).run()
    assert process.claim_sizes["crm"] > 16


@pytest.mark.parametrize(("made", "count"), [(spec_of, 1), (loop, 20)])
def test_one_call_after_another_makes_room_for_others_sooner(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, made: Callable[..., HandlerSpec], count: int
) -> None:
    """Calls side by side would have to run out first, and leave places empty meanwhile."""
    monkeypatch.setattr("worker.runtime.runner.INLINE_SLICE", 0.0)
    partition.sequence(*(change(f"t{number}", 1) for number in range(20)))
    calls: list[str] = []
    process, bells = process_of(partition, spec := made(lambda subject, ctx: calls.append(subject.team_id)))
    Runner(process, spec, 1).run()
    assert len(calls) == count
    assert ("crm", 1, 0.0) in bells.rung or count == 20


def test_a_rate_that_is_used_up_gets_a_bell_for_when_it_is_not(partition: Partition) -> None:
    """The sweeper alone would look two seconds later: the bell that nobody took down counts as on its way."""
    partition.sequence(*(change(f"t{number}", 1) for number in range(3)))
    calls: list[str] = []
    spec = spec_of(lambda subject, ctx: calls.append(subject.team_id), rate="1/2s")
    process, bells = process_of(partition, spec)
    Runner(process, spec, 1).run()
    assert len(calls) == 1
    assert 1.0 < max(delay for _, _, delay in bells.rung) <= 2.03


def test_a_process_that_has_to_end_begins_nothing_more_and_blames_no_job(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool ends it with a signal, which raises SystemExit wherever it is; in the midst of a call, mostly."""
    monkeypatch.setattr(billiard.common, "_should_have_exited", [False])
    partition.sequence(*(change(f"t{number}", seq) for number in range(20) for seq in (1, 2)))
    calls: list[str] = []

    def interrupted(subject: AssigneeChange, ctx: Context) -> None:
        calls.append(subject.team_id)
        billiard.common._should_have_exited[0] = True
        raise SystemExit(-241)

    process, _ = process_of(partition, spec := spec_of(interrupted))
    process.claim_sizes["crm"] = 64
    with pytest.raises(SystemExit):
        Runner(process, spec, 1).run()
    assert len(calls) == 1
    keys = partition.keys
    assert not partition.client.exists(keys.claims("crm"), keys.trouble("crm"))
    assert partition.balanced("crm").handlers["crm"].waiting == 40


def test_a_process_whose_event_loop_is_blocked_claims_nothing_and_leaves_where_it_is_replaced(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coroutine that blocks instead of awaiting stops all others; other processes may still run these lanes."""
    monkeypatch.setattr("worker.runtime.loop.LOOP_PATIENCE", 0.01)
    partition.sequence(change("a", 1))
    calls: list[str] = []

    async def called(subject: AssigneeChange, ctx: Context) -> None:
        calls.append(subject.team_id)

    process, _ = process_of(partition, spec := spec_of(called))
    unblock = threading.Event()
    process_loop().call_soon_threadsafe(unblock.wait, 60)
    try:
        assert Runner(process, spec, 1).run() == 0
        monkeypatch.setattr("worker.runtime.fitness.replaceable", lambda: True)
        with pytest.raises(SystemExit):
            Runner(process, spec, 1).run()
        assert not partition.client.exists(partition.keys.claims("crm"))
    finally:
        unblock.set()
    monkeypatch.undo()
    assert Runner(process, spec, 1).run() == 1
    assert calls == ["a"]


TEAMS: Final = {0: 1, 1: 9, 2: 3, 3: 7}
"""How many busy teams each partition has: what is shared out by partition would give some nine times as much."""


def in_every_partition(partition: Partition, jobs: int, order_by: OrderBy) -> dict[int, Partition]:
    """The installation's partitions, each with so many busy teams."""
    found = {}
    for number, teams in TEAMS.items():
        found[number] = other = Partition(
            partition.settings, partition.client, PartitionKeys(partition.settings.prefix, number)
        )
        bodies = [change(f"p{number}t{team}", seq) for seq in range(1, jobs + 1) for team in range(teams)]
        other.sequence(*bodies, route=to(Terms("crm", order_by)))
    return found


@pytest.mark.parametrize("order_by", ["team", None])
@pytest.mark.parametrize("made", [spec_of, loop])
def test_a_scarce_rate_is_shared_out_fairly_among_all_teams(
    partition: Partition, order_by: OrderBy, made: Callable[..., HandlerSpec]
) -> None:
    """However their partitions are asked: no team is ever more than two calls ahead of another that has work."""
    in_every_partition(partition, 40, order_by)
    calls: list[str] = []
    least: list[int] = []
    teams = sum(TEAMS.values())

    def called(subject: AssigneeChange, ctx: Context) -> None:
        calls.append(subject.team_id)
        counts = Counter(calls)
        least.append(max(counts.values()) - (min(counts.values()) if len(counts) == teams else 0))

    process, _ = process_of(partition, spec := made(called, rate="20/h", order_by=order_by))
    chance, deadline = random.Random(1), time.monotonic() + 30
    while len(calls) < 8 * teams and time.monotonic() < deadline:
        Runner(process, spec, chance.choice(list(TEAMS))).run()
        if len(calls) % 20 == 0:
            partition.client.delete(rate(partition.settings.prefix, "crm"))  # as time does, an hour later
    assert len(calls) >= 8 * teams
    assert max(least) <= 2


def test_a_team_with_one_job_is_not_behind_the_thousands_of_another(partition: Partition) -> None:
    bodies = [change("big", seq) for seq in range(1, 3001)]
    partition.sequence(*bodies, change("small", 1), route=to(Terms("crm", None)))
    calls: list[str] = []
    spec = spec_of(lambda subject, ctx: calls.append(subject.team_id), order_by=None)
    process, _ = process_of(partition, spec)
    Runner(process, spec, 1).run()
    assert "small" in calls[:3]


def test_a_team_at_its_rate_leaves_the_others_all_of_theirs(partition: Partition) -> None:
    bodies = [change("big", seq) for seq in range(1, 301)]
    partition.sequence(*bodies, *(change("small", seq) for seq in range(1, 5)), route=to(Terms("crm", "prospect")))
    calls: list[str] = []
    spec = spec_of(lambda subject, ctx: calls.append(subject.team_id), order_by="prospect", team_rate="4/m")
    process, _ = process_of(partition, spec)
    Runner(process, spec, 1).run()
    assert Counter(calls) == {"big": 4, "small": 4}


def test_calls_that_were_taken_for_lanes_that_nobody_may_run_are_given_back(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("b", 1))
    partition.client.hset(partition.keys.blocked("crm"), "a", "{}")  # and due: its owner died
    calls: list[str] = []
    process, _ = process_of(partition, spec := loop(lambda subject, ctx: calls.append(subject.team_id), rate="2/h"))
    Runner(process, spec, 1).run()
    partition.sequence(change("c", 1))
    Runner(process, spec, 1).run()
    assert calls == ["b", "c"]


def test_calls_that_were_granted_and_not_begun_are_given_back(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slice was over, or the process had to end, before their turn came."""
    monkeypatch.setattr("worker.runtime.runner.SLICE", 0.0)
    monkeypatch.setattr("worker.runtime.rates.CLUMP", 600.0)
    partition.sequence(*(change(f"t{number}", seq) for number in range(8) for seq in (1, 2)))
    calls: list[str] = []

    def slow(subject: AssigneeChange, ctx: Context) -> None:
        calls.append(subject.team_id)
        end = time.monotonic() + 0.03
        while time.monotonic() < end:
            pass

    process, _ = process_of(partition, spec := spec_of(slow, rate="8/m", team_rate="1/m"))
    process.claim_sizes["crm"] = 8
    for _ in range(30):
        Runner(process, spec, 1).run()
    assert sorted(calls) == [f"t{number}" for number in range(8)]
