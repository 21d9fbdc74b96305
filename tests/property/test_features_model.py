"""All of delivery's features against each other, on a real server: random options, random trouble, random acts of an
operator, processes that die; at the end what must hold does, and nothing is left behind."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import servers
from tests.runtime_kit import AT_ONCE, process_of, spec_of
from tests.store_kit import Partition, change, partition_on
from worker import AssigneeChange, DeadLetter, Retry
from worker.core.changes import Change
from worker.core.dispatch import Terms
from worker.core.handlers import HandlerSpec
from worker.runtime import executors
from worker.runtime.runner import Runner
from worker.store.archive import Archive
from worker.store.blocking import PAGE, Why, blocked_names, names, pause, unblock
from worker.store.dead import DeadFilter, Letter, select_dead
from worker.store.lanes import ClaimedLane, Settlement
from worker.store.pages import Window
from worker.store.replay import Plan, Replay
from worker.store.revival import Revival, drop

TEAMS = ("a", "b:1")
OWNERS = ("m1", None)
ENDS = ("again", "dead", "outage", "bug", "cut", "die")
"""How a call ends that does not end well; each before or after it took effect."""
_prefixes = itertools.count()

Key = tuple[str, str]


class Died(BaseException):
    """In place of the end of a process."""


class World:
    """A handler that keeps the owner of each prospect, in all the trouble that ``chance`` gives it."""

    def __init__(self, chance: random.Random, trouble: float) -> None:
        self.chance = chance
        self.trouble = trouble
        self.ending = False
        self.has: dict[Key, str | None] = {}
        self.done: Counter[tuple[str, int]] = Counter()
        self.meanwhile: Callable[[], None] | None = None

    def one(self, subject: AssigneeChange) -> Exception | None:
        if self.meanwhile is not None and self.chance.random() < 0.1:
            self.meanwhile()
        end = self.chance.choice(ENDS) if self.chance.random() < self.trouble else "done"
        if end == "done" or self.chance.random() < 0.5:
            self.has[subject.team_id, subject.prospect.key] = subject.assignee_id
        match end:
            case "again":
                return Retry()
            case "dead":
                return DeadLetter("no")
            case "outage":
                return ConnectionError()
            case "bug":
                return ValueError()
            case "cut":
                self.ending = True
                raise SystemExit
            case "die":
                raise Died
        self.done[subject.team_id, subject.seq] += 1
        return None

    def single(self, subject: AssigneeChange, ctx: Any) -> None:
        error = self.one(subject)
        if error is not None:
            raise error

    def batch(self, subjects: list[AssigneeChange], ctx: Any) -> object:
        before = self.done.copy()
        try:
            ends = [self.one(subject) for subject in subjects]
        except BaseException:
            self.done = before
            raise
        bugs = [error for error in ends if isinstance(error, ValueError | ConnectionError)]
        if bugs and self.chance.random() < 0.5:
            self.done = before
            raise bugs[0]
        return ends


class Operator:
    """One partition with one handler, and a person who does what they like, also while a call is running."""

    def __init__(self, partition: Partition, spec: HandlerSpec, world: World, archives: int) -> None:
        self.partition = partition
        self.spec = spec
        self.world = world
        self.archives = archives
        self.seqs: Counter[str] = Counter()
        self.newest: dict[Key, str | None] = {}
        self.kept_back: list[bytes] = []
        self.forgotten: set[Key] = set()
        self.replays = self.deaths = 0
        self.process, _ = process_of(partition, spec)

    @property
    def archive(self) -> Archive:
        partition = self.partition
        return Archive(partition.client, partition.scripts, partition.keys, partition.settings)

    def act(self) -> None:
        chance = self.world.chance
        acts = [self.sequence, self.sequence, self.pause, self.resume, self.resume, self.unblock, self.revive]
        chance.choice([*acts, self.drop, self.replay, self.trim, self.switch])()

    def sequence(self) -> None:
        chance, bodies = self.world.chance, self.kept_back
        self.kept_back = []
        for _ in range(chance.randrange(6)):
            team, prospect, owner = chance.choice(TEAMS), chance.choice("pqrs"), chance.choice(OWNERS)
            self.seqs[team] += 1
            self.newest[team, prospect] = owner
            body = change(team, self.seqs[team], prospect=prospect, assignee=owner)
            # Late, and not so old that it might be a duplicate.
            body = body.replace(b"2026-03-01T12:00", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M").encode())
            (self.kept_back if chance.random() < 0.15 else bodies).append(body)
        self.partition.sequence(*bodies, route=self.route)

    def route(self, event_type: str, made: Change | None) -> list[Terms]:
        """As a worker's own (runtime/registry.py), and now and then another handler beside it."""
        terms = [Terms("crm", self.spec.order_by, self.spec.conflate)] if self.spec.wants(event_type, made) else []
        return terms + [Terms("mail")] * (self.world.chance.random() < 0.3)

    def pause(self) -> None:
        partition = self.partition
        lanes = list(names(partition.client, partition.keys, "crm"))
        pause(partition.scripts, partition.keys, "crm", lanes[: self.world.chance.randrange(3)], "me")

    def resume(self) -> None:
        self.let_on(Why.PAUSED)

    def unblock(self) -> None:
        self.let_on(Why.EXHAUSTED, give_up=self.world.chance.random() < 0.5)

    def let_on(self, why: Why, *, give_up: bool = False) -> None:
        partition = self.partition
        lanes = list(blocked_names(partition.client, partition.keys, "crm", why))
        if lanes:
            unblock(partition.scripts, partition.keys, "crm", lanes[:PAGE], why, give_up=give_up)

    def letters(self) -> list[Letter]:
        partition = self.partition
        return sorted(
            select_dead(partition.client, [partition.keys], DeadFilter(), Window()), key=lambda letter: letter.order
        )

    def revive(self) -> None:
        partition, letters = self.partition, self.letters()
        if letters:
            Revival(partition.client, partition.scripts, {1: partition.keys}).revive(letters[:64])

    def drop(self) -> None:
        letters = self.letters()[:1]
        if letters and drop(self.partition.scripts, self.partition.keys, letters):
            # Which prospect's it was is not asked for: nobody was told of any of its team.
            self.forgotten |= {key for key in self.newest if key[0] == letters[0].team}

    def replay(self) -> None:
        self.replays += 1
        plan = Plan(f"r{self.replays}", "crm", "me", 1, False, (0, self.archive.end()))
        for _ in Replay(self.archive, plan, self.spec).steps(piece=3):
            if self.world.chance.random() < 0.2:
                break
        self.partition.client.hdel(self.partition.keys.replays, plan.id)

    def trim(self) -> None:
        archive = self.archive
        archive._bounds = (self.world.chance.randrange(5), 10**6)
        archive.trim(0)

    def switch(self) -> None:
        archives = 0 if self.partition.settings.archive_events else self.archives
        self.partition.settings = self.partition.settings.model_copy(update={"archive_events": archives})

    def run(self) -> None:
        try:
            Runner(self.process, self.spec, 1).run()
        except Died:
            self.deaths += 1
        except SystemExit:
            self.world.ending = False
        self.partition.balanced("crm", "mail")
        self.partition.expire_claims("crm")

    def waiting(self) -> int:
        return self.partition.books("crm").handlers["crm"].waiting or 0

    def clear(self) -> None:
        """Everything on its way to its end, with nobody to disturb it; stale letters are forgotten."""
        self.sequence_all()
        for _ in range(200):
            self.resume()
            self.let_on(Why.EXHAUSTED)
            self.revive()
            if not self.waiting():
                break
            self.run()
        assert not self.waiting(), self.partition.dump()
        drop(self.partition.scripts, self.partition.keys, self.letters())
        lanes = self.partition.lanes("mail")
        self.partition.expire_claims("mail")
        for _ in range(500):
            claim = lanes.claim(lanes=9, jobs=99, per_lane=99)
            if not claim.lanes:
                break
            assert all(job.body for lane in claim.lanes for job in lane.jobs)
            lanes.settle([_all_done(claim.token, lane) for lane in claim.lanes])

    def sequence_all(self) -> None:
        bodies, self.kept_back = self.kept_back, []
        self.partition.sequence(*bodies, route=self.route)


def _all_done(token: int, lane: ClaimedLane) -> Settlement:
    return Settlement(token, lane.lane, done=len(lane.jobs))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with servers.running("valkey") as found:
        yield found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.2, 0.5]),
    archives=st.sampled_from([0, 4, 50]),
    batch=st.sampled_from([None, None, 1, 4]),
    options=st.fixed_dictionaries(
        {
            "conflate": st.booleans(),
            "order_by": st.sampled_from(["team", "prospect"]),
            "on_exhausted": st.sampled_from(["dead_letter", "block"]),
            "attempts": st.integers(1, 3),
        }
    ),
)
def test_whatever_meets_the_handler_has_the_newest_owners_and_nothing_is_left(
    url: str, seed: int, trouble: float, archives: int, batch: int | None, options: dict[str, Any]
) -> None:
    world = World(random.Random(seed), trouble)
    of_batch = {} if batch is None else {"batch": batch, "batch_wait": 0}
    function = world.single if batch is None else world.batch
    spec = spec_of(function, backoff=AT_ONCE, breaker=None, **options, **of_batch)
    with (
        structlog.testing.capture_logs(),
        partition_on(url, f"features{next(_prefixes)}", archive_events=archives) as partition,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(executors, "terminate_handler_fired", lambda: world.ending)
        operator = Operator(partition, spec, world, archives or 4)
        world.meanwhile = operator.act
        for _ in range(10):
            operator.act()
            operator.run()
        world.trouble = 0.0
        world.meanwhile = None
        operator.clear()
        owed = {key: owner for key, owner in operator.newest.items() if key not in operator.forgotten}
        assert {key: world.has.get(key, "nobody said") for key in owed} == owed
        if not (operator.deaths or operator.replays):
            assert set(world.done.values()) <= {1}
        books = partition.balanced("crm", "mail")
        partition.settings = partition.settings.model_copy(update={"archive_events": 0})
        operator.archive.trim(0)
        left = {name.split(":")[0] for name in partition.names()}
        assert left <= {"inbox", "state", "ledger", "seen", "team", "owner", "dead", "bell", "missed", "again", "ids"}
        assert partition.client.xlen(partition.keys.inbox) == partition.client.xlen(partition.keys.dead) == 0
        counts = partition.client.hmget(partition.keys.ledger, "stored", "kept", "kept_bytes", "archive_bytes")
        assert [int(count or 0) for count in counts] == [0, 0, 0, 0], books
