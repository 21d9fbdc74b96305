"""The runner, in this process, against real servers: from a doorbell to what is left of the lanes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from tests import servers
from tests.runtime_kit import AT_ONCE, NotedBells, process_of, spec_of
from tests.store_kit import Partition, change, partition_on
from worker import AssigneeChange, Context, DeadLetter, Discard, Retry
from worker.core.handlers import HandlerSpec
from worker.core.retry import Backoff
from worker.runtime.loop import process_loop
from worker.runtime.runner import Runner
from worker.store.lanes import LEASE_MS, LaneStore, Settlement

Body = Callable[[AssigneeChange, Context], Any]


class Calls:
    """A handler's function that remembers its calls and does what ``acts`` says for a (team, seq)."""

    def __init__(self, **acts: Callable[[Context], None]) -> None:
        self.made: list[tuple[str, int, int]] = []
        self.acts = acts

    def __call__(self, subject: AssigneeChange, ctx: Context) -> None:
        self.made.append((subject.team_id, subject.seq, ctx.attempt))
        self.acts.get(f"{subject.team_id}{subject.seq}", lambda _: None)(ctx)

    def of(self, team: str) -> list[tuple[int, int]]:
        return [(seq, attempt) for name, seq, attempt in self.made if name == team]


def raising(error: Exception, *, until: int = 99) -> Callable[[Context], None]:
    def act(ctx: Context) -> None:
        if ctx.attempt < until:
            raise error

    return act


def inline(body: Body, **options: Any) -> HandlerSpec:
    return spec_of(body, **{"backoff": AT_ONCE} | options)


def threads(body: Body, **options: Any) -> HandlerSpec:
    return inline(body, **{"concurrency": 4} | options)


def loop(body: Body, **options: Any) -> HandlerSpec:
    async def handler(subject: AssigneeChange, ctx: Context) -> None:
        body(subject, ctx)

    return inline(handler, **options)


KINDS = pytest.mark.parametrize("made", [inline, threads, loop])


def answer(partition: Partition, spec: HandlerSpec, *, rounds: int = 30, left: int = 0) -> NotedBells:
    """Bells are answered until no lane has jobs, retries come due at once; the bells rung meanwhile."""
    process, bells = process_of(partition, spec)
    for _ in range(rounds):
        Runner(process, spec, partition.keys.partition).run()
        if partition.books("crm").handlers["crm"].waiting == left:
            return bells
        partition.expire_claims()
    raise AssertionError("jobs are left after all rounds")


def dead(partition: Partition) -> list[dict[bytes, bytes]]:
    found = partition.client.xrange(partition.keys.dead)
    return [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in found]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@KINDS
def test_all_jobs_run_once_and_in_order(partition: Partition, made: Callable[..., HandlerSpec]) -> None:
    calls, teams = Calls(), [f"t{number}" for number in range(100)]
    partition.sequence(*(change(team, seq) for seq in range(1, 11) for team in teams))
    answer(partition, made(calls))
    assert {team: calls.of(team) for team in teams} == {team: [(seq, 1) for seq in range(1, 11)] for team in teams}
    books = partition.balanced("crm")
    assert (books.handlers["crm"].done, books.in_stream) == (1000, 0)


@KINDS
def test_a_failure_is_tried_again_and_holds_back_its_lane_alone(
    partition: Partition, made: Callable[..., HandlerSpec]
) -> None:
    partition.sequence(*(change(team, seq) for seq in (1, 2, 3) for team in "ab"))
    calls = Calls(a2=raising(ValueError("later"), until=3))
    answer(partition, made(calls))
    assert calls.of("a") == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]
    assert calls.of("b") == [(1, 1), (2, 1), (3, 1)]
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.retried, books.dead) == (6, 2, 0)


@KINDS
def test_a_job_that_fails_for_good_becomes_a_dead_letter_with_its_history(
    partition: Partition, made: Callable[..., HandlerSpec]
) -> None:
    partition.sequence(*(change("a", seq) for seq in (1, 2, 3)))
    calls = Calls(a2=raising(ValueError("never")))
    answer(partition, made(calls, attempts=3))
    assert calls.of("a") == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]
    (letter,) = dead(partition)
    assert (letter[b"attempts"], letter[b"error"]) == (b"3", b"ValueError")
    assert letter[b"trouble"].count(b"never") == 3
    books = partition.balanced("crm")
    assert (books.handlers["crm"].dead, books.in_stream, books.waiting) == (1, 1, 0)
    assert change("a", 2) in partition.client.xrange(partition.keys.inbox)[0][1]


@KINDS
def test_signals_of_the_handler(partition: Partition, made: Callable[..., HandlerSpec]) -> None:
    partition.sequence(*(change("a", seq) for seq in (1, 2, 3, 4)))
    calls = Calls(a1=raising(Discard("no")), a2=raising(DeadLetter("no")), a3=raising(Retry(after=60.0), until=2))
    process, _ = process_of(partition, spec := made(calls))
    for _ in range(5):
        Runner(process, spec, 1).run()
    assert calls.of("a") == [(1, 1), (2, 1), (3, 1)]  # the rest waits for a minute
    assert 50_000 < partition.client.zscore(partition.keys.ready("crm"), "a") - time.time() * 1000 <= 60_000
    answer(partition, spec)
    assert calls.of("a")[3:] == [(3, 2), (4, 1)]
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.discarded, books.dead, books.retried) == (2, 1, 1, 1)


@KINDS
def test_the_books_say_of_each_job_of_a_group_how_it_ended(
    any_server_url: str, prefix: str, made: Callable[..., HandlerSpec]
) -> None:
    with partition_on(any_server_url, prefix, archive_events=10) as partition:
        partition.sequence(*(change("a", seq) for seq in range(1, 7)))
        answer(partition, made(Calls(a2=raising(Discard("no")), a5=raising(Discard("no")))))
        ends = partition.client.hgetall(partition.keys.ends)
        entries = [name for name, _ in partition.client.xrange(partition.keys.inbox)]
        ended = [ends[entry + b" crm"].split()[0].decode() for entry in entries]
        assert ended == ["done", "discarded", "done", "done", "discarded", "done"]


@KINDS
def test_a_job_that_takes_its_process_with_it_is_buried_in_the_end(
    partition: Partition, made: Callable[..., HandlerSpec]
) -> None:
    """The processes that die are claims that are never settled."""
    partition.sequence(*(change("a", seq) for seq in (1, 2)), change("b", 1))
    lanes = LaneStore(partition.client, partition.scripts, partition.keys, "crm")
    partition.client.zadd(partition.keys.ready("crm"), {"a": 1})
    for _ in range(4):
        lanes.claim(lanes=1, jobs=9, per_lane=9)
        partition.client.zadd(partition.keys.ready("crm"), {"a": 1})
    calls = Calls()
    answer(partition, made(calls, attempts=3))
    assert (calls.of("a"), calls.of("b")) == ([(2, 1)], [(1, 1)])
    (letter,) = dead(partition)
    assert (letter[b"error"], letter[b"attempts"]) == (b"WorkerLost", b"3")
    partition.balanced("crm")


@pytest.mark.parametrize("made", [inline, loop])
def test_a_lane_that_another_process_took_is_left_alone(
    partition: Partition, made: Callable[..., HandlerSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its jobs: what was not settled is the other's to run, and this one writes nothing of it."""
    monkeypatch.setattr("worker.runtime.executors.SETTLE_JOBS", 1)
    partition.sequence(*(change("a", seq) for seq in range(1, 6)), change("b", 1))
    taken: list[Any] = []

    def take(ctx: Context) -> None:
        claim = None
        while claim is None or not claim.lanes:  # the runner may settle the first job meanwhile, and so renew
            partition.client.zadd(partition.keys.ready("crm"), {"a": 1})
            claim = partition.lanes().claim(lanes=1, jobs=9, per_lane=9)
        taken.extend((claim, partition.in_lane("crm", "a")))

    calls = Calls(a2=take)
    process, _ = process_of(partition, spec := made(calls))
    Runner(process, spec, 1).run()
    claim, before = taken
    assert claim.lanes[0].lane == "a"
    assert partition.in_lane("crm", "a") == before
    assert partition.lanes().renew([(claim.token, "a")]) == []
    assert calls.of("b") == [(1, 1)]
    if made is inline:  # which settles between two jobs; a coroutine may be one job ahead
        assert calls.of("a") == [(1, 1), (2, 1)]
    partition.balanced("crm")


def test_an_event_whose_body_is_gone_is_buried_and_its_lane_goes_on(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2))
    partition.client.xdel(partition.keys.inbox, partition.client.xrange(partition.keys.inbox)[0][0])
    calls = Calls()
    answer(partition, inline(calls))
    assert calls.of("a") == [(2, 1)]
    assert [letter[b"error"] for letter in dead(partition)] == [b"BodyLost"]


def test_a_slow_handler_claims_little_and_a_fast_one_much(partition: Partition) -> None:
    """What is claimed waits its turn here and nowhere else."""
    partition.sequence(*(change(f"t{number:03}", seq) for number in range(400) for seq in (1, 2, 3, 4)))
    process, _ = process_of(partition, spec := inline(Calls()))
    runner = Runner(process, spec, 1)
    sizes = []
    for elapsed in (0.0001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.5, 5.0, 0.001):
        sizes.append(runner._claimer._size)
        runner._claimer.adapt(runner._claimer._size, elapsed)
    assert sizes == [1, 4, 16, 64, 256, 1024, 1024, 204, 4]


def test_a_runner_that_finds_more_than_it_can_take_asks_for_help_once(partition: Partition) -> None:
    partition.sequence(*(change(f"t{number}", 1) for number in range(200)))
    bells = answer(partition, inline(Calls()))
    assert bells.rung == [("crm", 1, 0.0)]


def test_a_retry_that_is_due_soon_gets_a_bell_of_its_own(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    process, bells = process_of(partition, spec := inline(Calls(a1=raising(Retry(after=0.3)))))
    Runner(process, spec, 1).run()
    ((handler, number, delay),) = bells.rung
    assert (handler, number) == ("crm", 1)
    assert 0.0 < delay <= 0.302


def test_a_retry_that_is_due_later_is_the_sweepers(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    process, bells = process_of(partition, spec := inline(Calls(a1=raising(Retry(after=5.0)))))
    Runner(process, spec, 1).run()
    assert bells.rung == []


@KINDS
def test_a_time_slice_that_is_over_makes_room_and_rings_again(
    partition: Partition, made: Callable[..., HandlerSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes that were claimed and not begun are handed back as they were."""
    monkeypatch.setattr("worker.runtime.runner.SLICE", 0.0)
    partition.sequence(*(change(f"t{number}", seq) for number in range(30) for seq in (1, 2)))
    calls = Calls()
    process, bells = process_of(partition, spec := made(calls))
    turns = 0
    while partition.balanced("crm").handlers["crm"].waiting:
        Runner(process, spec, 1).run()
        turns += 1
        assert bells.rung[-1] == ("crm", 1, 0.0)
        assert not partition.client.hlen(partition.keys.claims("crm"))
    assert sorted(calls.made) == sorted((f"t{number}", seq, 1) for number in range(30) for seq in (1, 2))
    assert partition.books("crm").handlers["crm"].retried == 0
    assert turns > 1 or made is not inline


def test_a_server_that_is_gone_ends_the_run_quietly(prefix: str) -> None:
    with servers.running("valkey") as url, partition_on(url, prefix) as partition:
        partition.sequence(change("a", 1))

        def shut_down(ctx: Context) -> None:
            partition.client.execute_command("CONFIG", "SET", "requirepass", "another")
            partition.client.connection_pool.disconnect()

        process, _ = process_of(partition, spec := inline(Calls(a1=shut_down)))
        with structlog.testing.capture_logs() as lines:
            assert Runner(process, spec, 1).run() == 0
        assert [line["event"] for line in lines] == ["runner_store_unavailable"]


def test_a_hung_thread_does_not_hold_the_runner(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be ended; its lane goes to others, and this process to its other work."""
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.005)
    monkeypatch.setattr("worker.runtime.keeper.GRACE", 0.02)
    partition.sequence(change("a", 1), change("b", 1), change("b", 2))
    hang = threading.Event()
    calls = Calls(a1=lambda ctx: (hang.wait(60) and None) or None)
    process, _ = process_of(partition, spec := threads(calls, concurrency=2, timeout=0.02))
    try:
        Runner(process, spec, 1).run()
        assert calls.of("b") == [(1, 1), (2, 1)]
        assert partition.seqs_in("crm", "a") == [1]
        partition.expire_claims()
        assert partition.lanes().claim(lanes=1, jobs=1, per_lane=1).lanes[0].crashed
    finally:
        hang.set()


def test_a_coroutine_that_will_not_be_cancelled_does_not_hold_the_runner(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.005)
    monkeypatch.setattr("worker.runtime.keeper.GRACE", 0.02)
    partition.sequence(change("a", 1), change("b", 1))
    ended = asyncio.Event()

    async def stubborn(subject: AssigneeChange, ctx: Context) -> None:
        while subject.team_id == "a" and not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue

    process, _ = process_of(partition, spec := inline(stubborn, timeout=0.02))
    Runner(process, spec, 1).run()
    assert partition.seqs_in("crm", "b") == []
    assert partition.seqs_in("crm", "a") == [1]
    process_loop().call_soon_threadsafe(ended.set)


def test_lanes_behind_a_slow_call_can_be_had_by_others_meanwhile(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.005)
    monkeypatch.setattr("worker.runtime.keeper.SLOW", 0.02)
    monkeypatch.setattr("worker.runtime.claiming.FIRST_CLAIM", 64)
    partition.sequence(*(change(team, seq) for team in "abc" for seq in (1, 2)))
    elsewhere: list[tuple[str, int, bool, list[int]]] = []

    def be_slow(ctx: Context) -> None:
        lanes, end = partition.lanes(), time.monotonic() + 10
        while len(elsewhere) < 2 and time.monotonic() < end:
            claim = lanes.claim(lanes=9, jobs=9, per_lane=1)
            elsewhere.extend((x.lane, x.attempt, x.crashed, [job.job.seq for job in x.jobs]) for x in claim.lanes)

    calls = Calls(a1=be_slow)
    process, bells = process_of(partition, spec := inline(calls))
    Runner(process, spec, 1).run()
    assert sorted(elsewhere) == [("b", 1, False, [1]), ("c", 1, False, [1])]
    assert calls.made == [("a", 1, 1), ("a", 2, 1)], "and are not called here too"
    assert ("crm", 1, 0.0) in bells.rung
    partition.balanced("crm")


def test_lanes_that_ended_before_a_slow_call_do_not_wait_for_it(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are they called again, though the call takes longer than their lease."""
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.005)
    monkeypatch.setattr("worker.runtime.keeper.SLOW", 0.02)
    monkeypatch.setattr("worker.runtime.claiming.FIRST_CLAIM", 64)
    partition.sequence(change("a", 1), change("b", 1), change("b", 2))
    written: list[int] = []

    def be_slow(ctx: Context) -> None:
        partition.sequence(change("a", 2))
        end = time.monotonic() + 10
        while partition.seqs_in("crm", "a") != [2] and time.monotonic() < end:
            time.sleep(0.001)
        written.extend(partition.seqs_in("crm", "a"))

    calls = Calls(b1=be_slow)
    process, bells = process_of(partition, spec := inline(calls))
    Runner(process, spec, 1).run()
    assert written == [2], "a's first job has left its lane"
    assert calls.made == [("a", 1, 1), ("b", 1, 1), ("b", 2, 1), ("a", 2, 1)]
    assert ("crm", 1, 0.0) in bells.rung
    assert partition.balanced("crm").handlers["crm"].done == 4


@KINDS
def test_a_process_that_slept_through_its_lease_begins_no_other_job(
    partition: Partition, made: Callable[..., HandlerSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped in the middle of a call; when it comes to itself, others have had the rest of its lane."""
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 60.0)
    monkeypatch.setattr("worker.runtime.claiming.FIRST_CLAIM", 64)
    partition.sequence(*(change("a", seq) for seq in (1, 2, 3)))
    clock = time.monotonic

    def sleep_on(ctx: Context) -> None:
        partition.expire_claims()
        lanes = partition.lanes()
        (taken,) = (claim := lanes.claim(lanes=1, jobs=3, per_lane=3)).lanes
        lanes.settle([Settlement(claim.token, taken.lane, done=len(taken.jobs))])
        monkeypatch.setattr("worker.runtime.calls.time", SimpleNamespace(monotonic=lambda: clock() + LEASE_MS / 1000))

    calls = Calls(a1=sleep_on)
    process, _ = process_of(partition, spec := made(calls))
    Runner(process, spec, 1).run()
    assert calls.made == [("a", 1, 1)]


@pytest.mark.parametrize("made", [threads, loop])
def test_long_calls_go_on_without_their_runner(
    partition: Partition, made: Callable[..., HandlerSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are settled when they end; they count against the concurrency; whoever found no room is rung for then."""
    monkeypatch.setattr("worker.runtime.runner.SLICE", 0.0)
    monkeypatch.setattr("worker.runtime.runner.PATIENCE", 0.05)
    partition.sequence(*(change(team, seq) for team in "abc" for seq in (1, 2)))
    go_on = threading.Event()
    made_calls: list[tuple[str, int]] = []

    async def in_loop(subject: AssigneeChange, ctx: Context) -> None:
        made_calls.append((subject.team_id, subject.seq))
        while not go_on.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)

    def in_thread(subject: AssigneeChange, ctx: Context) -> None:
        made_calls.append((subject.team_id, subject.seq))
        go_on.wait(60)

    process, bells = process_of(partition, spec := inline(in_loop if made is loop else in_thread, concurrency=2))
    Runner(process, spec, 1).run()
    assert process.lingering.lanes("crm") == 2
    assert bells.rung == [("crm", 1, 0.0), ("crm", 1, 0.0)], "once for help, once for the rest"
    Runner(process, spec, 1).run()
    assert (len(made_calls), len(bells.rung)) == (2, 2)
    go_on.set()
    process.lingering.wait(10)
    assert len(bells.rung) == 3
    assert partition.balanced("crm").handlers["crm"].done == 2
    answer(partition, spec)
    assert sorted(made_calls) == [(team, seq) for team in "abc" for seq in (1, 2)]


def test_a_job_that_died_beside_others_is_tried_alone(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever killed the process twice, the next to die dies by itself."""
    partition.sequence(*(change(team, seq) for team in "abcde" for seq in (1, 2)))
    lanes = LaneStore(partition.client, partition.scripts, partition.keys, "crm")
    for _ in range(3):  # processes that die: one claim of several jobs, then of one lane at a time
        for _ in range(3):
            lanes.claim(lanes=3, jobs=6, per_lane=2)
        partition.expire_claims()
    beside: list[set[str]] = []  # of each call that has to be alone: who was there meanwhile
    ended: list[set[str]] = []
    inside: set[str] = set()

    async def handler(subject: AssigneeChange, ctx: Context) -> None:
        inside.add(subject.team_id)
        for each in beside:
            each.add(subject.team_id)
        if ctx.attempt > 1:
            beside.append(set(inside))
            partition.sequence(change(f"new{subject.team_id}", 1))  # which would be claimed meanwhile
        await asyncio.sleep(0.2 if ctx.attempt > 1 else 0.01)
        if ctx.attempt > 1:
            ended.append(beside.pop())
        inside.remove(subject.team_id)

    answer(partition, inline(handler, attempts=9))
    assert sorted(ended, key=sorted) == [{team} for team in "abc"]
    assert partition.balanced("crm").handlers["crm"].done == 13


def test_long_calls_keep_their_lanes(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper renews while a call runs: nobody else gets the lane, though its lease would have run out."""
    monkeypatch.setattr("worker.runtime.keeper.PERIOD", 0.005)
    partition.sequence(change("a", 1))
    stolen = []

    def outlast(ctx: Context) -> None:
        ready, before = partition.keys.ready("crm"), time.time() * 1000 + 1000
        partition.client.zadd(ready, {"a": before})
        end = time.monotonic() + 10
        while partition.client.zscore(ready, "a") <= before and time.monotonic() < end:
            pass
        stolen.extend(partition.lanes().claim(lanes=1, jobs=1, per_lane=1).lanes)

    answer(partition, inline(Calls(a1=outlast)))
    assert stolen == []


def test_a_handlers_backoff_is_between_its_attempts(partition: Partition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)
    partition.sequence(change("a", 1))
    spec = spec_of(Calls(a1=raising(ValueError())), backoff=Backoff(base=10.0, cap=15.0))
    process, _ = process_of(partition, spec)
    waits = []
    for _ in range(3):
        Runner(process, spec, 1).run()
        seconds, micros = partition.client.time()
        score = partition.client.zscore(partition.keys.ready("crm"), "a")
        waits.append(round((score - seconds * 1000 - micros / 1000) / 1000))
        partition.expire_claims()
    assert waits == [10, 15, 15]
