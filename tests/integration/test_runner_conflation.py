"""A conflating handler, run in this process against real servers: which calls it gets, and that it converges."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime_kit import AT_ONCE, KINDS, inline, process_of
from tests.store_kit import Partition, change, partition_on, to
from worker import AssigneeChange, Context
from worker.core.dispatch import Terms
from worker.core.handlers import HandlerSpec
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


def test_a_lane_that_cancels_out_as_a_whole_is_no_call_and_those_behind_it_go_on(partition: Partition) -> None:
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
