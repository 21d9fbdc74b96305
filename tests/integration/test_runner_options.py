"""What options make of a handler's lanes, from the inbox to the calls: order, late and unchanged changes, blocking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from tests.runtime_kit import AT_ONCE, process_of, spec_of
from tests.store_kit import PATIENT, Partition, change, other
from worker import AssigneeChange, Context, DeadLetter, Event
from worker.core.handlers import HandlerSpec
from worker.runtime.registry import router
from worker.runtime.runner import Runner


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@dataclass
class Calls:
    """A handler that remembers; ``fails`` says whether a seq may not succeed, and with what."""

    fails: dict[int, Exception] = field(default_factory=dict)
    seen: list[AssigneeChange | Event] = field(default_factory=list)

    def __call__(self, subject: Any, ctx: Context) -> None:
        self.seen.append(subject)
        if subject.seq in self.fails:
            raise self.fails[subject.seq]

    @property
    def seqs(self) -> list[int]:
        return [subject.seq for subject in self.seen]


def deliver(partition: Partition, spec: HandlerSpec, *bodies: bytes, **how: Any) -> None:
    partition.sequence(*bodies, route=router({spec.name: spec}), **how)


def run(partition: Partition, spec: HandlerSpec, *, rounds: int = 5) -> None:
    """Bells are answered so many times, and whatever waits for its time comes due."""
    process, _ = process_of(partition, spec)
    for _ in range(rounds):
        Runner(process, spec, partition.keys.partition).run()
        partition.expire_claims()


def made(calls: Callable[..., None], **options: Any) -> HandlerSpec:
    return spec_of(calls, **{"backoff": AT_ONCE, "attempts": 2} | options)


def test_by_prospect_one_that_fails_holds_back_its_own_changes_and_no_others(partition: Partition) -> None:
    calls = Calls({1: ValueError("never")})
    spec = made(calls, order_by="prospect", attempts=99)
    deliver(partition, spec, *(change("a:b", seq, prospect="pq"[seq % 2], assignee=f"m{seq}") for seq in range(1, 7)))
    run(partition, spec, rounds=2)
    assert [seq for seq in calls.seqs if seq != 1] == [2, 4, 6]
    assert set(partition.names()) >= {"lane:crm:a%3Ab:q"}
    assert {subject.team_id for subject in calls.seen} == {"a:b"}
    del calls.fails[1]
    run(partition, spec, rounds=2)
    assert [seq for seq in calls.seqs if seq not in {1, 2, 4, 6}] == [3, 5]
    assert partition.balanced("crm").handlers["crm"].done == 6


def test_without_an_order_nothing_waits_for_anything(partition: Partition) -> None:
    calls = Calls({1: ValueError("never"), 3: ValueError("never")})
    spec = made(calls, order_by=None, attempts=99, on="*")
    deliver(partition, spec, *(other("a", seq) for seq in range(1, 6)))
    run(partition, spec, rounds=1)
    assert {2, 4, 5} <= set(calls.seqs)
    calls.fails.clear()
    run(partition, spec, rounds=2)
    assert partition.balanced("crm").handlers["crm"].done == 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(1, "assigned", False)]),
        ({"unchanged": True}, [(1, "assigned", False), (3, "unchanged", False)]),
        ({"late": "all"}, [(1, "assigned", False), (2, "assigned", True)]),
        ({"late": "all", "unchanged": True}, [(1, "assigned", False), (3, "unchanged", False), (2, "assigned", True)]),
    ],
)
def test_echoes_and_overtaken_changes_come_to_who_asks_and_say_what_they_are(
    partition: Partition, options: dict[str, Any], expected: list[tuple[int, str, bool]]
) -> None:
    calls = Calls()
    spec = made(calls, **options)
    deliver(partition, spec, change("a", 1), change("a", 3))
    fresh = change("a", 2, assignee="m2").replace(b"2026-03-01", b"2099-03-01")  # or it might be a duplicate
    deliver(partition, spec, fresh)
    run(partition, spec, rounds=1)
    assert [(each.seq, each.kind, each.stale) for each in calls.seen] == expected  # type: ignore[union-attr]
    assert [each.late for each in calls.seen] == [stale for *_, stale in expected]
    partition.balanced("crm")


def blocked(partition: Partition) -> dict[bytes, Any]:
    found = partition.client.hgetall(partition.keys.blocked("crm"))
    return {lane: json.loads(text) for lane, text in found.items()}


def test_a_lane_that_may_skip_nothing_waits_for_a_person_and_no_other_does(partition: Partition) -> None:
    calls = Calls({2: ValueError("never")})
    spec = made(calls, on_exhausted="block", attempts=3)
    deliver(partition, spec, *(change("a", seq, assignee=f"m{seq}") for seq in (1, 2, 3)))
    deliver(partition, spec, change("b", 1), change("b", 3, assignee="m2"), policy=PATIENT)
    run(partition, spec, rounds=9)
    assert [subject.seq for subject in calls.seen if subject.team_id == "a"] == [1, 2, 2, 2]
    (note,) = blocked(partition).values()
    assert (note["why"], note["error"]) == ("exhausted", "ValueError")
    books = partition.balanced("crm").handlers["crm"]
    assert (books.dead, books.waiting) == (0, 2)
    # It was made due above, as by its owner's death; whoever meets it puts it back.
    Runner(process_of(partition, spec)[0], spec, 1).run()
    assert partition.client.zscore(partition.keys.ready("crm"), "a") == float("inf")


def test_what_cannot_succeed_is_a_dead_letter_even_where_lanes_block(partition: Partition) -> None:
    calls = Calls({2: DeadLetter("hopeless")})
    spec = made(calls, on_exhausted="block")
    deliver(partition, spec, *(change("a", seq, assignee=f"m{seq}") for seq in (1, 2, 3)))
    run(partition, spec)
    assert calls.seqs == [1, 2, 3]
    assert blocked(partition) == {}
    assert partition.balanced("crm").handlers["crm"].dead == 1


def test_a_job_that_kills_its_process_blocks_its_lane_after_its_attempts(partition: Partition) -> None:
    """The processes that die are claims that are never settled."""
    calls = Calls()
    spec = made(calls, on_exhausted="block", attempts=2)
    deliver(partition, spec, change("a", 1), change("a", 2, assignee="m2"))
    for _ in range(3):
        partition.lanes().claim(lanes=1, jobs=9, per_lane=9)
        partition.expire_claims()
    run(partition, spec)
    assert calls.seen == []
    (note,) = blocked(partition).values()
    assert (note["why"], note["error"]) == ("exhausted", "WorkerLost")
    assert partition.balanced("crm").handlers["crm"].waiting == 2
