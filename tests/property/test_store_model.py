"""The scripts against the core: what the server holds after any batches, and crashes anywhere, is what the core says.

Two runs over the same deliveries. On the server, state is loaded for each batch and committed by script, by processes
that die at any step. In memory, the core's ``plan`` carries its state from batch to batch. They must agree after each
commit, and the books must balance after each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import servers
from tests.store_kit import Partition, change, other, partition_on
from worker.core import jobs
from worker.core.changes import Change
from worker.core.dispatch import Terms
from worker.core.envelope import read
from worker.core.handlers import HandlerSpec
from worker.core.lateness import GapWait
from worker.core.sequencing import Plan, Policy, State, TeamState, fingerprint, plan
from worker.errors import LeaseLost
from worker.store.batch import Batch
from worker.store.records import encode_lateness
from worker.store.scripts import Code
from worker.store.sequence import Lease

TEAMS = ("a", "b{p01}")
STEPS = ("acquire", "read", "load", "plan", "commit", "bells")
POLICIES = [
    Policy(gap_wait=GapWait(fixed_ms=3_600_000), held_max=4),
    Policy(gap_wait=GapWait(fixed_ms=0)),
]
CHANGES = HandlerSpec("crm", print)
ALL = HandlerSpec("mail", print, on=("*",))


def route(event_type: str, made: Change | None) -> list[Terms]:
    return [Terms(spec.name) for spec in (CHANGES, ALL) if spec.wants(event_type, made)]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Few teams, numbers, prospects and ids, so that they meet: duplicates, twins, gaps, late and stale events."""
    team, seq = draw(st.sampled_from(TEAMS)), draw(st.integers(0, 8))
    event_id = draw(st.sampled_from([f"{team}-{seq}", f"{team}-{seq}", f"{team}-{seq}b"]))
    match draw(st.integers(0, 9)):
        case 0:
            return b"not an event"
        case 1 | 2:
            return other(team, seq, event_id=event_id)
    prospect, owner = draw(st.sampled_from("pq")), draw(st.sampled_from(["m1", "m 2", None]))
    return change(team, seq, event_id=event_id, prospect=prospect, assignee=owner)


policies = st.sampled_from(POLICIES)
batches = st.lists(st.lists(bodies(), max_size=6), min_size=1, max_size=5)


@dataclass
class Model:
    """The pure core with its state in memory, and the lanes that it would have filled."""

    policy: Policy
    state: State = field(default_factory=State)
    lanes: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)

    def take(self, batch: Batch) -> Plan:
        made = plan(self.state, batch.deliveries, batch.clock, self.policy, batch.due)
        for released in made.released:
            handlers = route(released.arrival.event.type, released.change)
            for handler, *_ in handlers:
                lane = self.lanes.setdefault((handler, released.arrival.event.team), [])
                lane.append(jobs.encode(released, shared=len(handlers) > 1).encode())
        return made


def compare(partition: Partition, model: Model) -> None:
    """The server's state, read as a new process would, is the model's; and so are the lanes."""
    lease = Lease(0, "0-0", model.state.lateness)
    everything = Batch([], {}, list(TEAMS), 0, drained=True)
    stored = partition.store.load(lease, everything)
    assert {name: stored.teams[name] for name in TEAMS} == {
        name: model.state.teams.get(name, TeamState()) for name in TEAMS
    }
    for (team, prospect), owner in model.state.owners.items():
        again = State()
        partition.store._add_owners(
            again, [(team, prospect)], [partition.client.get(partition.keys.owner(team, prospect))]
        )
        assert again.owners == {(team, prospect): owner}
    (seen,) = [name for name in partition.names() if name.startswith("seen:")] or [None]
    marks = partition.client.smembers(f"{partition.keys.base}:{seen}") if seen else set()
    assert marks == model.state.seen
    lateness = partition.client.hget(partition.keys.state, "lateness")
    assert lateness in {None, encode_lateness(model.state.lateness)}
    for (handler, team), texts in model.lanes.items():
        assert partition.in_lane(handler, team) == texts
    partition.balanced("crm", "mail")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with servers.running("valkey") as url:
        yield url


_number = iter(range(10**9))


@contextmanager
def fresh(url: str) -> Iterator[Partition]:
    """The server, emptied: each example is an installation of its own."""
    with partition_on(url, f"m{next(_number)}") as partition:
        partition.client.flushdb()
        yield partition


relaxed = settings(
    deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@settings(relaxed, max_examples=120)
@given(batches, policies)
def test_state_and_lanes_on_the_server_are_those_of_the_core(
    server: str, batches: list[list[bytes]], policy: Policy
) -> None:
    with fresh(server) as partition:
        model, lease = Model(policy), partition.acquire()
        for group in batches:
            partition.append(*group)
            batch = partition.store.read(lease, 100)
            made = plan(partition.store.load(lease, batch), batch.deliveries, batch.clock, model.policy, batch.due)
            expected = model.take(batch)
            assert (made.released, made.duplicates, made.quarantined) == (
                expected.released,
                expected.duplicates,
                expected.quarantined,
            )
            partition.store.commit(lease, batch, made, route, 100)
            compare(partition, model)


deaths = st.lists(st.sampled_from([*STEPS, None]), max_size=12)


@settings(relaxed, max_examples=150)
@given(batches, deaths, st.integers(1, 7), policies)
def test_processes_that_die_anywhere_lose_double_and_disorder_nothing(
    server: str, batches: list[list[bytes]], deaths: list[str | None], count: int, policy: Policy
) -> None:
    """Whoever dies is followed by another, and tries to commit once more when it is too late: that is refused."""
    with fresh(server) as partition:
        model = Model(policy)
        waiting = list(reversed(batches))
        dying = iter(deaths)
        while True:
            if waiting:
                partition.append(*waiting.pop())
            if _one_life(partition, model, next(dying, None), count) is Code.DONE and not waiting:
                break
            compare(partition, model)
        compare(partition, model)
        _check_lanes(partition, model)


def _one_life(partition: Partition, model: Model, death: str | None, count: int) -> Code | None:
    """Work until nothing is left, or until just after the step ``death``; None when it died."""
    store = partition.store
    lease = store.acquire()
    assert lease is not None, "the one before has been gone for long enough"
    ghost: tuple[Batch, Plan] | None = None

    def dead(step: str) -> bool:
        if step != death:
            return False
        partition.expire_lease()
        return True

    try:
        if dead("acquire"):
            return None
        while True:
            batch = store.read(lease, count)
            if dead("read"):
                return None
            state = store.load(lease, batch)
            if dead("load"):
                return None
            made = plan(state, batch.deliveries, batch.clock, model.policy, batch.due)
            ghost = batch, made
            if dead("plan"):
                return None
            store.commit(lease, batch, made, route, 100)
            ghost = None
            model.take(batch)
            if dead("commit") or dead("bells"):
                return None
            code, _ = store.release(lease, hand_on=False)
            if code is not Code.MORE:
                return code
    finally:
        if ghost is not None:
            before = partition.dump()
            with pytest.raises(LeaseLost):
                store.commit(lease, *ghost, route, 100)
            assert partition.dump() == before


def _check_lanes(partition: Partition, model: Model) -> None:
    """Said once more without the core's help: each event once, in the order of its number but for the late ones."""
    for handler, team in model.lanes:
        decoded = [jobs.decode(text) for text in partition.in_lane(handler, team)]
        entries = [job.entry for job in decoded]
        assert len(entries) == len(set(entries))
        in_order = [job.seq for job in decoded if not job.late]
        assert in_order == sorted(in_order)
    stored = {entry.decode(): flat for entry, flat in partition.client.xrange(partition.keys.inbox)}
    for handler, team in model.lanes:
        marks = []
        for text in partition.in_lane(handler, team):
            body = stored[jobs.decode(text).entry][1]
            event = read(body)
            marks.append(fingerprint(event.team, event.id))
        assert len(marks) == len(set(marks))
