"""Batch handlers on a real server: whatever calls and changes end in, each change succeeds once and in its turn."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import servers
from tests.runtime_kit import AT_ONCE, process_of, spec_of
from tests.store_kit import change, partition_on, to
from worker import AssigneeChange, BatchContext, DeadLetter, Discard, Retry
from worker.core.dispatch import Terms
from worker.runtime.runner import Runner

Key = tuple[str, int]
TEAMS = ("a", "b", "c:1")
_prefixes = itertools.count()


class Died(BaseException):
    """In place of the end of a process."""


class World:
    """A handler whose changes end as the seed says, by their number of calls; and a protocol of its calls."""

    def __init__(self, seed: int, *, trouble: float, deadly: bool) -> None:
        self.seed = seed
        self.trouble = trouble
        self.deadly = deadly
        self.calls: list[list[Key]] = []
        self.times: Counter[Key] = Counter()
        self.done: Counter[Key] = Counter()
        self.deaths = 0
        self.prospects: dict[Key, str] = {}
        self.overtaken: list[Key] = []

    def end_of(self, key: Key) -> str:
        draw = random.Random(f"{self.seed} {key} {self.times[key]}")
        if draw.random() >= self.trouble:
            return "done"
        ends = ["again", "again", "discard", "dead", "outage", "bug", "refused", "wrong"]
        return draw.choice([*ends, "die"] if self.deadly else ends)

    def __call__(self, changes: list[AssigneeChange], ctx: BatchContext) -> object:
        keys = [(change.team_id, change.seq) for change in changes]
        self.calls.append(keys)
        self.times.update(keys)
        for one in changes:
            key = one.team_id, one.seq
            self.prospects[key] = one.prospect.key
            newer = [other for other in self.done if other[0] == key[0] and other[1] > key[1]]
            self.overtaken += [key for other in newer if self.prospects[other] == one.prospect.key]
        ends = {key: self.end_of(key) for key in keys}
        for end in ends.values():
            match end:
                case "die":
                    self.deaths += 1
                    raise Died
                case "outage":
                    raise ConnectionError
                case "bug":
                    raise ValueError
                case "refused":
                    raise DeadLetter
                case "wrong":
                    return 7
        self.done.update(key for key, end in ends.items() if end == "done")
        answers = {"done": None, "again": Retry(), "discard": Discard(), "dead": DeadLetter()}
        return [answers[ends[key]] for key in keys]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with servers.running("valkey") as found:
        yield found


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.1, 0.4, 0.9]),
    deadly=st.booleans(),
    batch=st.integers(1, 7),
    attempts=st.integers(1, 3),
    order_by=st.sampled_from(["team", "prospect"]),
    drawn=st.lists(st.tuples(st.sampled_from(TEAMS), st.sampled_from("pqr")), min_size=1, max_size=24),
)
def test_each_change_succeeds_once_and_in_its_turn(
    url: str,
    seed: int,
    trouble: float,
    deadly: bool,
    batch: int,
    attempts: int,
    order_by: str,
    drawn: list[tuple[str, str]],
) -> None:
    world = World(seed, trouble=trouble, deadly=deadly)
    spec = spec_of(
        world, batch=batch, batch_wait=0, attempts=attempts, order_by=order_by, backoff=AT_ONCE, breaker=None
    )
    seqs: Counter[str] = Counter()
    bodies = []
    for team, prospect in drawn:
        seqs[team] += 1
        bodies.append(change(team, seqs[team], prospect=prospect, assignee=f"m{seqs[team]}"))
    with (
        structlog.testing.capture_logs(),
        partition_on(url, f"batches{next(_prefixes)}") as partition,
    ):
        partition.sequence(*bodies, route=to(Terms("crm", order_by)))  # type: ignore[arg-type]
        for _ in range(400):
            process, _ = process_of(partition, spec)
            with suppress(Died):
                Runner(process, spec, partition.keys.partition).run()
            books = partition.balanced("crm").handlers["crm"]
            if not books.waiting:
                break
            partition.expire_claims()
        assert books.waiting == 0, "it comes to an end"
        left = {name.split(":")[0] for name in partition.names()}
        assert left <= {"inbox", "state", "seen", "team", "owner", "ledger", "dead"}, "and leaves nothing behind"
    assert max(map(len, world.calls), default=0) <= batch
    # One call that failed as a whole is not counted; nor is what a death took with it.
    assert max(world.times.values()) <= attempts + 1 + world.deaths
    assert books.done + books.discarded + books.dead == len(drawn)
    if not world.deaths:
        assert set(world.done.values()) <= {1}, "nothing that was done is done again"
        assert books.done == len(world.done)
        assert world.overtaken == [], "no change comes after a newer one of its prospect"
    first: dict[tuple[str, str], list[int]] = {}
    seen: set[Key] = set()
    for key in itertools.chain(*world.calls):
        if key not in seen:
            seen.add(key)
            lane = (key[0], "" if order_by == "team" else world.prospects[key])
            first.setdefault(lane, []).append(key[1])
    assert all(numbers == sorted(numbers) for numbers in first.values()), "first calls come in order"
