"""What a backlog costs for each event, counted: round trips, commands, objects. What the clock decides is taken out.

Each bound is what is needed, with room for a little more; whoever goes over it has put a loop where a batch was.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.connection import AbstractConnection

from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change
from worker import AssigneeChange, BatchContext, Context
from worker.core.envelope import read
from worker.core.handlers import HandlerSpec
from worker.core.sequencing import Delivery, Policy, State, fingerprint, plan
from worker.runtime.runner import Runner
from worker.runtime.sequencer import MOST_BATCH, Sequencer
from worker.store.sequence import FIRST_BATCH

TEAMS = 20
EVENTS = 4000
TWICE = 5  # each fifth is delivered twice
SMALL = FIRST_BATCH * 5  # deliveries of the first two batches


UNTIMED = {
    "worker.runtime.sequencer.SLOW": 60.0,
    "worker.runtime.sequencer.SLICE": 60.0,
    "worker.runtime.runner.SLICE": 60.0,
    "worker.runtime.runner.INLINE_SLICE": 60.0,
    "worker.runtime.executors.SETTLE_EVERY": 60.0,
    "worker.runtime.batch_executors.SETTLE_EVERY": 60.0,
    "worker.runtime.claiming.CLAIM_SECONDS": 1e9,
}
"""What depends on how fast the machine is, taken out."""


@pytest.fixture
def backlog(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> Partition:
    """Events of teams in turn, shuffled a little as the network does, some of them twice."""
    for name, value in UNTIMED.items():
        monkeypatch.setattr(name, value)
    partition.settings.gap_wait = 0.0  # given up as soon as there is nothing more to read
    bodies = [change(f"t{at % TEAMS}", at // TEAMS + 1, prospect=f"p{at % 997}", pad=1000) for at in range(EVENTS)]
    for at in range(8 * TEAMS, EVENTS - TEAMS, 4 * TEAMS):
        # One of eight comes before the one that it should follow, but within a batch, or it would be late.
        if (at - SMALL) // MOST_BATCH == (at + TEAMS - SMALL) // MOST_BATCH:
            bodies[at], bodies[at + TEAMS] = bodies[at + TEAMS], bodies[at]
    bodies += bodies[::TWICE]
    for first in range(0, len(bodies), 500):
        partition.append(*bodies[first : first + 500])
    return partition


@contextmanager
def counted(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """``trips``: writes to the server, each of which is waited for; and each command by its name, in scripts too."""
    found: Counter[str] = Counter()
    send = AbstractConnection.send_packed_command

    def counting(self: AbstractConnection, *words: Any, **options: Any) -> None:
        found["trips"] += 1
        send(self, *words, **options)

    partition.client.config_resetstat()
    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "send_packed_command", counting)
        yield found
    stats: Any = partition.client.info("commandstats")
    for name, each in stats.items():
        found[name.removeprefix("cmdstat_")] += int(each["calls"])
    found["commands"] = sum(int(each["calls"]) for each in stats.values())


def sequence(partition: Partition, *specs: HandlerSpec) -> None:
    process, _ = process_of(partition, *specs)
    while Sequencer(process, partition.keys.partition).run():
        pass


def handle(partition: Partition, spec: HandlerSpec) -> None:
    process, _ = process_of(partition, spec)
    while Runner(process, spec, partition.keys.partition).run():
        pass


def plain(change: AssigneeChange, ctx: Context) -> None:
    return


async def coroutine(change: AssigneeChange, ctx: Context) -> None:
    return


def batch(changes: list[AssigneeChange], ctx: BatchContext) -> None:
    return


def test_a_batch_is_put_in_order_in_four_round_trips(backlog: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(backlog, monkeypatch) as found:
        sequence(backlog, spec_of(plain))
    books = backlog.balanced("crm")
    assert (books.handlers["crm"].waiting, books.ledger["duplicates"]) == (EVENTS, EVENTS // TWICE)
    deliveries = EVENTS + EVENTS // TWICE
    batches = deliveries // MOST_BATCH + 3  # the first ones are small
    # Read, state, commit, and now and then the owners of what is held; once: acquire, release, a look at nothing.
    assert found["trips"] <= 4 * batches + 2
    # In scripts: a page of 16 for each XRANGE, an owner for each prospect of a batch, and what is one command a batch,
    # a team or a lane of it.
    assert found["xrange"] <= deliveries / 16 * 1.2 + 10 * batches
    assert found["set"] <= EVENTS + (TEAMS + 4) * batches
    assert found["commands"] - found["set"] - found["xrange"] <= (4 * TEAMS + 60) * batches
    assert found["commands"] < 1.8 * EVENTS


@pytest.mark.parametrize(
    ("function", "options", "trips"),
    [
        # A claim grows to 1,024 jobs, of which 256 are settled at a time.
        pytest.param(plain, {}, 60, id="plain"),
        # A claim brings 1,024 jobs; lanes that end at one time are settled together, at worst each by itself.
        pytest.param(coroutine, {}, 8 * TEAMS, id="coroutine"),
        # A claim fills a call of 256.
        pytest.param(batch, {"batch": 256, "batch_wait": 0.0}, 80, id="batch"),
    ],
)
def test_claims_are_handled_in_a_few_round_trips(
    backlog: Partition,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., Any],
    options: dict[str, Any],
    trips: int,
) -> None:
    spec = spec_of(function, **options)
    sequence(backlog, spec)
    with counted(backlog, monkeypatch) as found:
        handle(backlog, spec)
    assert backlog.balanced("crm").handlers["crm"].done == EVENTS
    # Claim, bodies in a range and the others one by one, but in one write, settle.
    assert found["trips"] <= trips
    # Jobs of a lane are claimed together, so a range of the stream brings others between theirs: so many are asked for
    # one by one at most (store/bodies.py).
    assert found["xrange"] <= EVENTS * 0.75
    # A lane of a claim costs a dozen commands, whatever the number of its jobs; a job costs none of its own.
    assert found["commands"] - found["xrange"] <= EVENTS / 5


def test_planning_leaves_few_objects_for_each_event() -> None:
    """What a plan keeps of each: the arrival, what is released, its change, the owner; so and so many tuples."""
    deliveries = []
    for at in range(EVENTS):
        body = change(f"t{at % TEAMS}", at // TEAMS + 1, prospect=f"p{at % 997}")
        event = read(body)
        deliveries.append(Delivery(f"{at}-0", at, event, len(body), fingerprint(event.team, event.id)))
    state = State()
    gc.collect()
    before = sys.getallocatedblocks()
    decided = plan(state, deliveries, EVENTS, Policy(held_max=10**6))
    blocks = sys.getallocatedblocks() - before
    assert len(decided.held) + len(decided.released) == EVENTS
    assert blocks / EVENTS < 7


def test_reading_an_envelope_leaves_only_what_it_is() -> None:
    """The body's hundred values are passed over, not made: the texts that ordering needs stay, and their tuple."""
    bodies = [change("t", seq, prospect=f"p{seq}", pad=1000) for seq in range(1, EVENTS + 1)]
    gc.collect()
    before = sys.getallocatedblocks()
    events = [read(body) for body in bodies]
    assert (sys.getallocatedblocks() - before) / len(events) < 10
