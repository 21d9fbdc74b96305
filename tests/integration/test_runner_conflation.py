"""A conflating handler, run in this process against real servers: which calls it gets, and that it converges."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes import until
from tests.runtime_kit import AT_ONCE, KINDS, inline, process_of, spec_of
from tests.store_kit import Partition, change, partition_on, to
from worker import AssigneeChange, BatchContext, Breaker, Context
from worker.core.dispatch import Terms
from worker.core.handlers import HandlerSpec
from worker.runtime import executors
from worker.runtime.runner import Runner


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def drain(partition: Partition, spec: HandlerSpec, *, rounds: int = 60) -> None:
    process, _ = process_of(partition, spec)
    for _ in range(rounds):
        Runner(process, spec, partition.keys.partition).run()
        if not partition.books(spec.name).handlers[spec.name].waiting:
            return
        partition.expire_claims(spec.name)
    raise AssertionError("jobs are left after all rounds")


def drained(partition: Partition, spec: HandlerSpec) -> bool:
    process, _ = process_of(partition, spec)
    Runner(process, spec, partition.keys.partition).run()
    partition.expire_claims(spec.name)
    return not partition.books(spec.name).handlers[spec.name].waiting


@KINDS
def test_a_lane_that_has_backed_up_is_one_call_for_each_prospect(
    partition: Partition, made: Callable[..., HandlerSpec]
) -> None:
    """With the first previous owner, the last owner, and what was absorbed."""
    bodies = [change("a", seq, prospect=f"p{seq % 2}", assignee=None if seq == 8 else f"m{seq}") for seq in range(1, 9)]
    partition.sequence(*bodies, change("b", 1), route=to(Terms("crm", conflate=True)))
    calls: list[dict[str, Any]] = []
    drain(partition, made(lambda subject, ctx: calls.append(subject.as_dict()), conflate=True))
    assert sorted((call["prospect"], call["seq"], call["assignee_id"], call["kind"]) for call in calls) == [
        ("p", 1, "m1", "assigned"),
        ("p0", 8, None, "unassigned"),
        ("p1", 7, "m7", "assigned"),
    ]
    by_prospect = {call["prospect"]: call for call in calls}
    assert by_prospect["p0"]["absorbed"] == ["a-2", "a-4", "a-6"]
    assert by_prospect["p"]["absorbed"] == []
    books = partition.balanced("crm")
    assert (books.handlers["crm"].done, books.handlers["crm"].conflated, books.in_stream) == (3, 6, 0)

    partition.sequence(
        *(change("a", seq, prospect="p1", assignee=f"m{seq}") for seq in (9, 10)),
        *(change("a", seq, prospect="p0", assignee=owner) for seq, owner in ((11, "m5"), (12, None))),
        route=to(Terms("crm", conflate=True)),
    )
    del calls[:]
    drain(partition, made(lambda subject, ctx: calls.append(subject.as_dict()), conflate=True))
    (call,) = calls
    assert (call["previous_assignee_id"], call["previous_known"], call["assignee_id"]) == ("m7", True, "m10")
    assert (call["kind"], call["seq"], call["absorbed"]) == ("reassigned", 10, ["a-9"])
    partition.balanced("crm")


def test_calls_under_a_rate_are_few_too(partition: Partition) -> None:
    """Of each lane one job is claimed at a time then."""
    bodies = [change(team, seq, assignee=f"m{seq}") for seq in range(1, 30) for team in "ab"]
    partition.sequence(*bodies, route=to(Terms("crm", conflate=True)))
    made: list[int] = []
    drain(partition, inline(lambda subject, ctx: made.append(subject.seq), conflate=True, rate="1000/1s"))
    assert made == [29, 29]
    partition.balanced("crm")


def test_a_lane_that_cancels_out_as_a_whole_is_no_call_and_those_behind_it_go_on(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.runtime.runner.SLICE", 60.0)  # one run, also where the machine is busy
    monkeypatch.setattr("worker.runtime.runner.INLINE_SLICE", 60.0)
    monkeypatch.setattr("worker.store.conflation.SECONDS", 60.0)
    teams = [f"t{number:03}" for number in range(150)]
    spec = inline(lambda subject, ctx: calls.append((subject.team_id, subject.assignee_id)), conflate=True)
    calls: list[tuple[str, str | None]] = []
    conflating = to(Terms("crm", conflate=True))
    partition.sequence(*(change(team, 1) for team in teams), route=conflating)
    drain(partition, spec)
    del calls[:]
    for seq, owner in enumerate(("m2", "m1"), 2):
        partition.sequence(*(change(team, seq, assignee=owner) for team in teams), route=conflating)
    partition.sequence(change("zz", 1), route=conflating)
    process, _ = process_of(partition, spec)
    Runner(process, spec, partition.keys.partition).run()
    assert calls == [("zz", "m1")]
    assert partition.balanced("crm").handlers["crm"].conflated == 300


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.sampled_from(["team", "prospect"]), st.booleans())
def test_whatever_fails_the_handler_has_the_newest_owner_of_each_prospect_in_the_end(
    server_url: str, seed: int, order_by: Any, archive: bool
) -> None:
    """Random changes, calls that fail before or after they took effect, processes that die: it converges."""
    chance = random.Random(seed)
    has: dict[tuple[str, str], str | None] = {}

    def crm(subject: AssigneeChange, ctx: Context) -> None:
        if chance.random() < 0.2:
            raise ValueError("before it took effect")
        has[subject.team_id, subject.prospect.key] = subject.assignee_id
        if chance.random() < 0.2:
            raise ValueError("after it took effect")

    spec = inline(crm, conflate=True, order_by=order_by, attempts=100, backoff=AT_ONCE, breaker=None)
    newest: dict[tuple[str, str], str | None] = {}
    prefix = f"c{seed}{order_by}{archive}"
    with partition_on(server_url, prefix, archive_events=20 if archive else 0) as partition:
        seq = dict.fromkeys("ab", 0)
        process, _ = process_of(partition, spec)
        for _ in range(6):
            bodies = []
            for _ in range(chance.randrange(12)):
                team, prospect, owner = chance.choice("ab"), chance.choice("pqr"), chance.choice(["m1", "m2", None])
                seq[team] += 1
                bodies.append(change(team, seq[team], prospect=prospect, assignee=owner))
                newest[team, prospect] = owner
            partition.sequence(*bodies, route=to(Terms("crm", order_by, conflate=True), "mail"))
            match chance.randrange(3):
                case 0:
                    Runner(process, spec, 1).run()
                case 1:  # a process that claimed, made some of the calls, and died
                    claim = partition.lanes(conflate=True).claim(lanes=2, jobs=4, per_lane=2)
                    for lane in claim.lanes:
                        for job in lane.jobs[: chance.randrange(3)]:
                            assert job.job.joint is not None
                            has[job.team, job.job.joint.prospect] = job.job.joint.current
                    partition.expire_claims()
            partition.balanced()
        drain(partition, spec)
        partition.balanced()
        told = {key: has.get(key, "?") for key in newest}
        assert told == newest
        partition.client.flushdb()


CONFLATING = to(Terms("crm", conflate=True))


def test_what_failed_in_a_batch_while_the_circuit_was_open_may_have_taken_effect(partition: Partition) -> None:
    """It costs no attempt, so nothing counts it; the change back goes out all the same."""
    has: dict[str, str | None] = {}
    down = False

    def crm(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        has.update((change.prospect.key, change.assignee_id) for change in changes)
        if down:
            raise ConnectionError("after it took effect")

    spec = spec_of(crm, batch=10, batch_wait=0, conflate=True, breaker=Breaker(calls=1, pause=0.1, longest=0.1))
    partition.sequence(change("a", 1, prospect="p"), route=CONFLATING)
    drain(partition, spec)
    down = True
    others = [change(team, 1, prospect="o") for team in "bcdef"]
    bodies = change("a", 2, prospect="q"), change("a", 3, prospect="p", assignee="m2")
    partition.sequence(*bodies, *others, route=CONFLATING)
    process, _ = process_of(partition, spec)
    Runner(process, spec, 1).run()
    assert has == {"p": "m2", "q": "m1", "o": "m1"}
    assert partition.in_lane("crm", "a")[1].split(b" ")[4][-1:] == b"0"
    partition.sequence(change("a", 4, prospect="p", assignee="m1"), route=CONFLATING)
    down = False
    partition.expire_claims()
    until(lambda: drained(partition, spec), "the circuit to close")
    assert has == {"p": "m1", "q": "m1", "o": "m1"}
    assert partition.balanced("crm").handlers["crm"].conflated == 0


@pytest.mark.parametrize("batch", [None, 10])
def test_a_call_that_was_cut_off_by_the_end_of_its_process_may_have_taken_effect(
    partition: Partition, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    has: list[str | None] = []
    ending = False

    def crm(subject: Any, ctx: Any) -> None:
        has.extend(each.assignee_id for each in (subject if isinstance(subject, list) else [subject]))
        if ending:
            raise SystemExit

    spec = spec_of(crm, conflate=True, **({} if batch is None else {"batch": batch, "batch_wait": 0}))
    partition.sequence(change("a", 1), route=CONFLATING)
    drain(partition, spec)
    partition.sequence(change("a", 2, assignee="m2"), route=CONFLATING)
    with monkeypatch.context() as patch:
        patch.setattr(executors, "terminate_handler_fired", lambda: ending)
        ending = True
        process, _ = process_of(partition, spec)
        with pytest.raises(SystemExit):
            Runner(process, spec, 1).run()
        ending = False
    partition.sequence(change("a", 3, assignee="m1"), route=CONFLATING)
    drain(partition, spec)
    assert has == ["m1", "m2", "m2", "m1"]
    partition.balanced("crm")


def test_a_call_that_was_cut_off_keeps_the_attempts_before_it(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []
    ending = False

    def crm(subject: AssigneeChange, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise SystemExit if ending else ValueError

    spec = inline(crm, attempts=3, backoff=AT_ONCE)
    partition.sequence(change("a", 1), route=to("crm"))
    monkeypatch.setattr(executors, "terminate_handler_fired", lambda: ending)
    process, _ = process_of(partition, spec)
    for last in (False, True, False, False):
        ending = last
        with suppress(SystemExit):
            Runner(process, spec, 1).run()
        partition.expire_claims()
    assert attempts == [1, 2, 2, 3]
    assert partition.balanced("crm").handlers["crm"].dead == 1
