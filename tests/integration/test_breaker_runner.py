"""A far side that is down, and a handler that is paused: runners against a real server, and a clock that is moved."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import structlog

from tests.processes import until
from tests.runtime_kit import process_of, spec_of
from tests.store_kit import Partition, change, partition_on
from worker import AssigneeChange, Breaker, Context, DeadLetter, Discard, Retry
from worker.core.breaker import Circuit, wait_until
from worker.core.handlers import HandlerSpec
from worker.core.retry import Backoff
from worker.runtime import gate, outcomes
from worker.runtime.process import Process
from worker.runtime.runner import Runner
from worker.runtime.sweeper import Sweeper
from worker.store.control import Control, ControlStore

STEP = 0.5  # seconds of a sweeper


class Down(ConnectionError):
    """The far side does not answer."""


@dataclass
class World:
    """A partition, a handler, and a far side that ``act`` stands for. ``now`` is how far time was moved, seconds."""

    partition: Partition
    spec: HandlerSpec
    act: Callable[[AssigneeChange, Context], None]
    calls: list[tuple[str, int, int, float]] = field(default_factory=list)
    done: list[tuple[str, int]] = field(default_factory=list)
    now: float = 0.0
    sweeper: Sweeper | None = None

    @property
    def store(self) -> ControlStore:
        return ControlStore(self.partition.client, self.partition.scripts, self.partition.settings.prefix, "crm")

    @property
    def control(self) -> Control:
        return self.store.read()

    @property
    def circuit(self) -> Circuit:
        return self.control.circuit

    def process(self) -> Process:
        return process_of(self.partition, self.spec)[0]

    def call(self, subject: AssigneeChange, ctx: Context) -> None:
        self.calls.append((subject.team_id, subject.seq, ctx.attempt, self.now))
        self.act(subject, ctx)
        self.done.append((subject.team_id, subject.seq))

    def later(self, seconds: float) -> None:
        """Everything that is due at a time is due so much sooner, and what was, was so much longer ago."""
        self.now += seconds
        ms = int(seconds * 1000)
        client, ready = self.partition.client, self.partition.keys.ready("crm")
        for lane, score in client.zrange(ready, 0, -1, withscores=True):
            client.zadd(ready, {lane: score - ms})
        circuit = self.circuit
        names = ("opened", "until", "lease", "row_at", "first", "closed")
        moved = {name: max(1, getattr(circuit, name) - ms) if getattr(circuit, name) else 0 for name in names}
        buckets = tuple(msgspec.structs.replace(bucket, at=bucket.at - ms) for bucket in circuit.buckets)
        assert self.store.swap(self.control, msgspec.structs.replace(circuit, buckets=buckets, **moved))

    def run(self) -> None:
        """As after a bell, by a process that knows nothing yet."""
        Runner(self.process(), self.spec, self.partition.keys.partition).run()

    def bells(self) -> list[str]:
        """The handlers that a sweep rings for."""
        if self.sweeper is None:
            self.sweeper = Sweeper(self.partition.settings, {"crm": self.spec})
        names, _, _ = self.sweeper._admitted()
        due = self.partition.client.zcount(self.partition.keys.ready("crm"), "-inf", self.control.now)
        return names if due else []

    def live(self, seconds: float) -> None:
        """So much time goes by, in which whatever comes due is rung for at most half a second later."""
        end = self.now + seconds
        while self.now < end:
            if self.bells():
                self.run()
            first = self.partition.client.zrange(self.partition.keys.ready("crm"), 0, 0, withscores=True)
            control = self.control
            soonest = max(first[0][1] if first else math.inf, wait_until(control.circuit)) - control.now
            self.later(min(max(STEP, soonest / 1000 + 0.02), end - self.now))


Make = Callable[..., World]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as found:
        yield found


@pytest.fixture
def world(server_url: str, prefix: str) -> Iterator[Make]:
    with partition_on(server_url, prefix) as partition:

        def make(act: Callable[[AssigneeChange, Context], None], *, is_async: bool = True, **options: Any) -> World:
            async def asynchronous(subject: AssigneeChange, ctx: Context) -> None:
                made.call(subject, ctx)

            def plain(subject: AssigneeChange, ctx: Context) -> None:
                made.call(subject, ctx)

            made = World(partition, spec_of(asynchronous if is_async else plain, **options), act)
            return made

        yield make


def down(subject: AssigneeChange, ctx: Context) -> None:
    raise Down("no answer")


def fine(subject: AssigneeChange, ctx: Context) -> None:
    """Whatever it is, it works."""


def fill(world: World, teams: str, each: int) -> None:
    world.partition.sequence(*(change(team, seq) for seq in range(1, each + 1) for team in teams))


def events(logs: list[Any], name: str) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == name]


@pytest.mark.parametrize(("teams", "is_async"), [("a", True), ("abcdefgh", True), ("abcdefgh", False)])
def test_an_hour_without_the_far_side_costs_no_dead_letter_and_a_call_a_minute(
    world: Make, logs: list[Any], teams: str, is_async: bool
) -> None:
    """As many attempts as the breaker wants failures, and no more, are spent on the hour."""
    w = world(down, is_async=is_async, attempts=6)
    fill(w, teams, 3)
    w.live(3600)
    books = w.partition.balanced("crm").handlers["crm"]
    assert (books.dead, books.waiting) == (0, 3 * len(teams))
    late = [call for call in w.calls if call[3] > 600]
    assert 40 <= len(late) <= 60
    assert max(attempt for *_, attempt, _ in w.calls) <= 6
    assert max(b[3] - a[3] for a, b in itertools.pairwise(late)) <= 90
    assert {call[0] for call in late} == set(teams)
    troubles = w.partition.client.hgetall(w.partition.keys.trouble("crm")).values()
    assert all(len(msgspec.json.decode(trouble)) <= 6 for trouble in troubles)
    assert len(events(logs, "circuit_opened")) == 1
    w.act = fine
    w.live(130)
    assert {team: [seq for name, seq in w.done if name == team] for team in teams} == {
        name: [1, 2, 3] for name in teams
    }
    assert w.partition.balanced("crm").handlers["crm"].done == 3 * len(teams)
    assert len(events(logs, "circuit_closed")) == 1
    assert not any("no answer" in str(line) for line in logs)


@pytest.mark.parametrize("attempts", [2, 3, 5])
@pytest.mark.parametrize("cap", [0.0, 1.0])
def test_nor_does_it_cost_any_where_jobs_have_few_attempts(world: Make, attempts: int, cap: float) -> None:
    """A job's last attempt is not spent while nobody has had a success since its first, however fast they follow."""
    w = world(down, attempts=attempts, backoff=Backoff(base=cap, cap=cap))
    fill(w, "a", 3)
    w.live(3600)
    assert w.partition.balanced("crm").handlers["crm"].dead == 0
    assert len([call for call in w.calls if call[3] > 600]) <= 60
    w.act = fine
    w.live(130)
    assert [seq for _, seq in w.done] == [1, 2, 3]


def test_without_a_breaker_the_same_hour_ends_in_dead_letters(world: Make) -> None:
    w = world(down, attempts=6, breaker=None)
    fill(w, "abcdefgh", 3)
    w.live(600)
    assert w.partition.balanced("crm").handlers["crm"].dead == 24


def test_one_poisonous_team_is_dead_lettered_and_the_others_never_wait(world: Make) -> None:
    """Its calls time out, which looks like an outage; but the others' calls end well meanwhile."""

    def act(subject: AssigneeChange, ctx: Context) -> None:
        if subject.team_id == "x":
            raise TimeoutError

    w = world(act, attempts=4, backoff=Backoff(1, 2))
    fill(w, "x", 1)
    seq = 0
    while w.partition.books("crm").handlers["crm"].dead == 0:
        seq += 1
        w.partition.sequence(change("a", seq))
        w.live(STEP)
        assert w.done[-1] == ("a", seq)
        assert not w.circuit.opened
        assert seq < 100


def test_a_poisonous_job_cannot_hold_it_open(world: Make, logs: list[Any]) -> None:
    """It is tried first, and then others are: the first of them closes it."""
    w = world(down)
    fill(w, "abc", 2)
    w.live(30)
    assert w.circuit.opened
    w.act = lambda subject, ctx: down(subject, ctx) if subject.team_id == "a" else None
    w.live(70)
    assert sorted(w.done) == [("b", 1), ("b", 2), ("c", 1), ("c", 2)]
    assert len(events(logs, "circuit_closed")) == 1


def test_errors_of_five_teams_open_it_and_those_of_one_do_not(world: Make) -> None:
    def act(subject: AssigneeChange, ctx: Context) -> None:
        raise KeyError("owner")

    w = world(act, attempts=3, backoff=Backoff(0, 0))
    fill(w, "a", 3)
    w.live(5)
    assert w.partition.books("crm").handlers["crm"].dead == 3
    assert not w.circuit.opened
    fill(w, "bcdefg", 3)
    w.live(120)
    assert w.circuit.opened
    assert w.partition.books("crm").handlers["crm"].dead == 3


@pytest.mark.parametrize("error", [Retry("not yet", after=0.1), DeadLetter("no"), Discard("no")])
def test_what_a_handler_says_itself_is_no_outage(world: Make, error: Exception) -> None:
    def act(subject: AssigneeChange, ctx: Context) -> None:
        raise error

    w = world(act)
    fill(w, "abcdefgh", 2)
    w.live(5)
    assert not w.circuit.opened


def test_a_probe_that_says_nothing_of_the_far_side_did_not_fail(world: Make, logs: list[Any]) -> None:
    hopeless = False

    def act(subject: AssigneeChange, ctx: Context) -> None:
        raise DeadLetter("no") if hopeless else Down()

    w = world(act)
    fill(w, "abcdefgh", 1)
    w.live(5)
    assert w.circuit.opened
    hopeless = True
    failed = len(events(logs, "probe_failed"))
    w.live(120)
    assert w.partition.books("crm").handlers["crm"].dead == 8
    assert len(events(logs, "probe_failed")) == failed


def test_a_far_side_that_names_a_time_is_not_asked_before(world: Make) -> None:
    def act(subject: AssigneeChange, ctx: Context) -> None:
        raise Retry(after=1800) from Down()

    w = world(act, attempts=11)
    fill(w, "abcdefgh", 1)
    w.live(60)
    assert len(w.calls) == 8
    w.live(1700)
    assert len(w.calls) == 8


def test_calls_in_hand_when_it_opens_are_not_counted_either(world: Make) -> None:
    """Sixty-four began together: what they have in common is no fault of any of them."""
    teams = [f"t{number}" for number in range(64)]
    w = world(down)
    w.partition.sequence(*(change(team, 1) for team in teams))
    w.run()
    assert len(w.calls) > 5  # and those that had not begun by then were let go
    claims = w.partition.client.hvals(w.partition.keys.claims("crm"))
    assert {claim.split()[1] for claim in claims} == {b"0"}


def test_a_job_that_is_alone_and_can_only_fail_is_given_up_after_a_day(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "PATIENCE_MS", 0)
    w = world(down, attempts=8)
    fill(w, "a", 1)
    w.live(1200)
    books = w.partition.balanced("crm").handlers["crm"]
    assert (books.dead, books.waiting) == (1, 0)


def test_a_probe_that_meets_what_needs_no_call_goes_on_to_the_next(world: Make, logs: list[Any]) -> None:
    """A filter that says no proves nothing of the far side: it takes a call to close."""
    w = world(down, when=lambda subject: subject.team_id != "filtered")
    fill(w, "ab", 1)
    w.live(30)
    assert w.circuit.opened
    w.partition.sequence(*(change("filtered", seq) for seq in range(1, 6)))
    w.live(900)  # between them, those that do call have their turns
    assert w.partition.balanced("crm").handlers["crm"].discarded == 5
    assert events(logs, "circuit_closed") == []
    w.act = fine
    w.live(120)
    assert sorted(w.done) == [("a", 1), ("b", 1)]


def test_a_probe_that_finds_nothing_to_do_is_given_back(world: Make) -> None:
    w = world(down)
    fill(w, "a", 1)
    w.live(30)
    w.partition.client.zadd(w.partition.keys.ready("crm"), {"a": w.control.now + 600_000})
    w.later(6)
    w.run()
    circuit = w.circuit
    assert (bool(circuit.opened), circuit.probe, circuit.lease) == (True, "", 0)


def test_of_two_processes_that_ask_at_once_one_has_the_probe(world: Make) -> None:
    w = world(down)
    fill(w, "abcdefgh", 1)
    w.live(1)
    assert w.circuit.opened
    w.later(60)
    w.calls.clear()
    begun, go = threading.Event(), threading.Event()

    def slow(subject: AssigneeChange, ctx: Context) -> None:
        begun.set()
        assert go.wait(30)

    w.act, w.spec = slow, spec_of(w.call, concurrency=2)
    thread = threading.Thread(target=w.run)
    thread.start()
    assert begun.wait(30)
    w.run()
    assert len(w.calls) == 1
    assert w.bells() == []
    go.set()
    thread.join()
    w.run()
    assert len(w.done) == 8


def test_a_probe_that_takes_long_is_kept_by_its_process(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.05)
    w = world(down)
    fill(w, "abcdefgh", 1)
    w.live(1)
    w.later(60)
    renewed, first = threading.Event(), []

    def slow(subject: AssigneeChange, ctx: Context) -> None:
        first.append(w.circuit.lease)
        if len(first) > 1:
            return
        until(lambda: w.circuit.lease > first[0], "the probe is renewed")
        renewed.set()

    w.act, w.spec = slow, spec_of(w.call)
    w.run()
    assert renewed.is_set()
    assert not w.circuit.opened


def test_what_another_process_found_out_stops_what_has_not_begun(world: Make) -> None:
    """A claim of many jobs is let go at the first look, and unspent."""
    w = world(fine, is_async=False)
    fill(w, "a", 20)

    def act(subject: AssigneeChange, ctx: Context) -> None:
        if subject.seq == 1:
            assert w.store.pause("somebody")
            until(lambda: gate_of(process).ask(probe=False) != gate.Closed(), "the news comes")

    def gate_of(process: Process) -> gate.Gate:
        return process.gate(w.spec)

    w.act = act
    process = w.process()
    process.claim_sizes["crm"] = 20
    Runner(process, w.spec, 1).run()
    assert len(w.done) <= 2
    assert w.partition.balanced("crm").handlers["crm"].waiting >= 18
    assert w.store.resume()
    w.run()
    assert w.done == [("a", seq) for seq in range(1, 21)]
    assert all(call[2] == 1 for call in w.calls)


def test_a_paused_handler_claims_nothing_and_no_bell_is_rung_for_it(world: Make) -> None:
    w = world(fine)
    fill(w, "ab", 2)
    w.store.pause("somebody")
    w.run()
    assert (w.calls, w.bells()) == ([], [])
    w.store.resume()
    assert w.bells() == ["crm"]
    w.run()
    assert len(w.done) == 4


def test_a_handler_that_works_writes_nothing_and_asks_seldom(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = world(fine, is_async=False)
    reads: list[int] = []
    read = ControlStore.read
    monkeypatch.setattr(ControlStore, "read", lambda self: (reads.append(1), read(self))[1])
    control = f"{w.partition.settings.prefix}:control:{{crm}}"
    monkeypatch.setattr(gate, "FRESH", 0.0)  # asks, and tells, whenever it can
    fill(w, "ab", 50)
    w.run()
    assert len(w.done) == 100
    assert len(reads) > 1
    assert w.partition.client.exists(control) == 0
    monkeypatch.setattr(gate, "FRESH", 3600.0)
    w.done.clear()
    reads.clear()
    w.partition.sequence(*(change(team, seq) for seq in range(51, 101) for team in "abcdefgh"))
    process = w.process()
    for _ in range(20):
        Runner(process, w.spec, 1).run()
    assert len(w.done) == 400
    assert len(reads) == 1
    assert w.partition.client.exists(control) == 0


def test_successes_are_told_while_a_failure_is_in_mind(world: Make) -> None:
    w = world(down)
    fill(w, "a", 1)
    w.run()
    assert w.circuit.row == 1
    w.act = fine
    w.partition.sequence(change("b", 1))
    w.run()
    assert (w.circuit.row, w.circuit.buckets[-1].ok) == (0, 1)


def test_what_needed_no_call_is_no_success_and_what_the_handler_discards_is(world: Make) -> None:
    w = world(down, when=lambda subject: subject.team_id != "filtered")
    fill(w, "a", 1)
    w.run()
    w.partition.sequence(change("filtered", 1))
    w.run()
    assert w.partition.balanced("crm").handlers["crm"].discarded == 1
    assert w.circuit.row == 1

    def act(subject: AssigneeChange, ctx: Context) -> None:
        raise Discard("the CRM does not know it")

    w.act = act
    w.partition.sequence(change("b", 1))
    w.run()
    # On a slow machine a's next attempt is due by now, and is discarded too.
    assert (w.circuit.row, w.circuit.buckets[-1].ok) in {(0, 1), (0, 2)}


def test_the_sweeper_wakes_for_the_end_of_the_pause_and_rings_for_one_probe(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.runtime.sweeper.PERIOD", 1000.0)
    w = world(down, breaker=Breaker(pause=60))
    fill(w, "abcdefgh", 1)
    w.run()
    sweeper = Sweeper(w.partition.settings, {"crm": w.spec})
    names, probing, soonest = sweeper._admitted()
    assert (names, probing) == ([], set())
    assert 0 < soonest <= 60
    w.later(60)
    assert sweeper._admitted()[:2] == (["crm"], {"crm"})
    rung: list[int] = []
    for partition in range(4):
        other = Partition(
            w.partition.settings, w.partition.client, type(w.partition.keys)(w.partition.keys.prefix, partition)
        )
        other.sequence(change(f"z{partition}", 1))
        w.partition.client.delete(other.keys.runner_bell("crm"))
    sweeper._bell = type("Bell", (), {"ring_runner": lambda self, name, queue, partition: rung.append(partition)})()
    sweeper._bell.ring_sequencer = lambda partition: None  # type: ignore[attr-defined]
    for _ in range(2):
        sweeper.sweep()
        for partition in range(4):
            w.partition.client.delete(type(w.partition.keys)(w.partition.keys.prefix, partition).runner_bell("crm"))
    assert len(rung) == 2
    assert len(set(rung)) == 2
