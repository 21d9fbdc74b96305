"""Batch handlers through the runner, in this process, against real servers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog

from tests.processes import until
from tests.runtime_kit import AT_ONCE, NotedBells, process_of, spec_of
from tests.store_kit import Partition, change, to
from worker import AssigneeChange, BatchContext, Breaker, DeadLetter, Discard, Retry
from worker.core.dispatch import Terms
from worker.core.handlers import HandlerSpec
from worker.runtime.runner import Runner

Body = Callable[[list[AssigneeChange], BatchContext], Any]
Act = Callable[[int], object]
"""What becomes of a change at its attempt."""


class Calls:
    """A batch handler's function that remembers its calls and answers with what ``acts`` says for a (team, seq)."""

    def __init__(self, **acts: Act) -> None:
        self.made: list[list[tuple[str, int, int]]] = []
        self.acts = acts
        self.keys: list[str] = []

    def __call__(self, changes: list[AssigneeChange], ctx: BatchContext) -> object:
        found = [(c.team_id, c.seq, attempt) for c, attempt in zip(changes, ctx.attempts, strict=True)]
        self.made.append(found)
        self.keys += ctx.idempotency_keys
        return [self.acts.get(f"{team}{seq}", lambda _: None)(attempt) for team, seq, attempt in found]

    def of(self, team: str) -> list[tuple[int, int]]:
        return [(seq, attempt) for call in self.made for name, seq, attempt in call if name == team]

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.made]


def inline(body: Body, **options: Any) -> HandlerSpec:
    return spec_of(body, **{"backoff": AT_ONCE, "batch": 10, "batch_wait": 0} | options)


def threads(body: Body, **options: Any) -> HandlerSpec:
    return inline(body, **{"concurrency": 3} | options)


def loop(body: Body, **options: Any) -> HandlerSpec:
    async def handler(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        return body(changes, ctx)

    return inline(handler, **options)  # type: ignore[arg-type]


KINDS = pytest.mark.parametrize("made", [inline, threads, loop])


def once(value: object) -> Act:
    return lambda attempt: value if attempt == 1 else None


def always(value: object) -> Act:
    return lambda _: value


def answer(partition: Partition, spec: HandlerSpec, *, rounds: int = 30, left: int = 0) -> NotedBells:
    """Bells are answered until so many jobs are left; whatever waits is due at once."""
    process, bells = process_of(partition, spec)
    for _ in range(rounds):
        Runner(process, spec, partition.keys.partition).run()
        if partition.balanced("crm").handlers["crm"].waiting == left:
            return bells
        partition.expire_claims()
    raise AssertionError("jobs are left after all rounds")


def dead(partition: Partition) -> list[tuple[str, int, str]]:
    """(the team and seq, attempts, error) of each dead letter."""
    found = []
    for _, flat in partition.client.xrange(partition.keys.dead):
        letter = dict(zip(flat[::2], flat[1::2], strict=True))
        seq = letter[b"job"].split(b" ")[3]
        found.append(((letter[b"lane"] + seq).decode(), int(letter[b"attempts"]), letter[b"error"].decode()))
    return found


def fill(partition: Partition, teams: Sequence[str], seqs: Sequence[int], **options: Any) -> None:
    """Each change is another prospect's."""
    partition.sequence(*(change(team, seq, prospect=f"p{seq}", **options) for seq in seqs for team in teams))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@KINDS
def test_many_lanes_go_into_a_call_and_each_in_order(partition: Partition, made: Callable[..., HandlerSpec]) -> None:
    calls, teams = Calls(), [f"t{number}" for number in range(20)]
    fill(partition, teams, range(1, 8))
    answer(partition, made(calls))
    assert {team: calls.of(team) for team in teams} == {team: [(seq, 1) for seq in range(1, 8)] for team in teams}
    assert max(calls.sizes) == 10
    assert len(calls.made) <= 30, "of 140 changes; side by side, a lane's rest may find no others"
    assert sorted(calls.keys) == sorted(f"{team}:{team}-{seq}:crm" for team in teams for seq in range(1, 8))
    assert partition.balanced("crm").handlers["crm"].done == 140


def test_a_lane_is_never_in_two_calls_at_once(partition: Partition) -> None:
    """One call after another where there is one lane, whatever the concurrency; and the calls are full."""
    calls = Calls()
    fill(partition, ["a"], range(1, 36))
    answer(partition, threads(calls))
    assert calls.sizes == [10, 10, 10, 5]
    assert calls.of("a") == [(seq, 1) for seq in range(1, 36)]


@KINDS
def test_each_change_ends_for_itself(partition: Partition, made: Callable[..., HandlerSpec]) -> None:
    fill(partition, "abcd", (1, 2, 3))
    calls = Calls(
        a2=once(Retry("later")), b1=always(DeadLetter("no")), c2=always(Discard()), d1=always(Discard), d3=always(True)
    )
    answer(partition, made(calls, batch=12))
    assert calls.of("a") == [(1, 1), (2, 1), (3, 1), (2, 2)], "what was done is not done again"
    assert [calls.of(team) for team in "bcd"] == [[(1, 1), (2, 1), (3, 1)]] * 3
    assert dead(partition) == [("b1", 1, "DeadLetter")]
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.discarded, books.dead, books.retried) == (9, 2, 1, 1)


def test_an_exception_in_the_answer_is_judged_as_if_it_was_raised(partition: Partition) -> None:
    class Refused(Exception):
        status_code = 422

    fill(partition, "ab", (1,))
    answer(partition, inline(Calls(a1=always(Refused("no such contact")), b1=once(ConnectionError()))))
    assert dead(partition) == [("a1", 1, "Refused")]
    assert partition.books("crm").handlers["crm"].done == 1


def test_a_mapping_names_those_that_failed(partition: Partition) -> None:
    seen = []

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        seen.append([change.event_id for change in changes])
        return {"b-1": DeadLetter("by id"), 2: DeadLetter("by place")} if len(changes) == 3 else {}

    fill(partition, "abc", (1,))
    answer(partition, inline(handle))
    assert len(seen) == 1
    assert {name for name, *_ in dead(partition)} == {"b1", f"{seen[0][2][0]}1"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda n: [None] * (n + 1),
        lambda n: [None] * (n - 1),
        lambda n: [False] * n,
        lambda n: "d" * n,
        lambda n: 7,
        lambda n: {n: Retry()},
        lambda n: {"nobody": Retry()},
        lambda n: {True: Retry()},
        lambda n: [ValueError] * n,
    ],
)
def test_a_wrong_answer_is_the_author_s_error_and_nothing_is_done(
    partition: Partition, wrong: Callable[[int], object]
) -> None:
    fill(partition, "ab", (1, 2))
    process, _ = process_of(partition, spec := inline(lambda changes, ctx: wrong(len(changes))))
    Runner(process, spec, partition.keys.partition).run()
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.discarded, books.dead, books.waiting) == (0, 0, 0, 4)
    troubles = partition.client.hvals(partition.keys.trouble("crm"))
    assert [b"TypeError" in trouble and b"answered" in trouble for trouble in troubles] == [True, True]
    assert partition.client.hvals(partition.keys.claims("crm")) == [b"0 1 0 0"] * 2, "tried again, and together"


@KINDS
def test_a_failure_behind_another_has_exactly_its_attempts(
    partition: Partition, made: Callable[..., HandlerSpec]
) -> None:
    fill(partition, ["a"], range(1, 7))
    calls = Calls(**{f"a{seq}": always(Retry()) for seq in (2, 4, 5)})
    answer(partition, made(calls, attempts=3))
    assert sorted(calls.of("a")) == [(1, 1), *((2, n) for n in (1, 2, 3)), (3, 1)] + [
        (seq, n) for seq in (4, 5) for n in (1, 2, 3)
    ] + [(6, 1)]
    assert sorted(dead(partition)) == [("a2", 3, "Retry"), ("a4", 3, "Retry"), ("a5", 3, "Retry")]
    letters = [flat for _, flat in partition.client.xrange(partition.keys.dead)]
    assert not any(b"WorkerLost" in word for flat in letters for word in flat), "no call of theirs was lost"


def test_an_overtaken_change_is_discarded_and_one_of_another_prospect_is_not(partition: Partition) -> None:
    bodies = [change("a", 1, prospect="x"), change("a", 2, prospect="y"), change("a", 3, prospect="x")]
    partition.sequence(*bodies)
    calls = Calls(a1=always(Retry()), a2=once(Retry()))
    answer(partition, inline(calls))
    assert calls.of("a") == [(1, 1), (2, 1), (3, 1), (2, 2)]
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.discarded) == (2, 1)


def test_a_handler_of_all_changes_gets_an_overtaken_one_again_and_is_told(partition: Partition) -> None:
    marks = []

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        marks.extend((c.seq, attempt, c.late, c.stale) for c, attempt in zip(changes, ctx.attempts, strict=True))
        return [Retry() if c.seq in (1, 2) and n == 1 else None for c, n in zip(changes, ctx.attempts, strict=True)]

    partition.sequence(*(change("a", seq, prospect="x", assignee=f"m{seq}") for seq in (1, 2, 3)))
    answer(partition, inline(handle, late="all"))
    assert marks == [(1, 1, False, False), (2, 1, False, False), (3, 1, False, False)] + [
        (seq, 2, True, True) for seq in (1, 2)
    ]
    assert partition.balanced("crm").handlers["crm"].done == 3


def test_a_handler_of_events_is_told_that_later_ones_came_before(partition: Partition) -> None:
    seen = []

    def handle(events: list[Any], ctx: BatchContext) -> object:
        seen.extend((event.seq, event.late) for event in events)
        return [Retry() if event.seq == 1 and n == 1 else None for event, n in zip(events, ctx.attempts, strict=True)]

    partition.sequence(change("a", 1), change("a", 2), route=to("crm"))
    answer(partition, inline(handle, on="*"))
    assert seen == [(1, False), (2, False), (1, True)]


class Refused(Exception):
    """A far side that names no culprit."""

    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__(f"{status}")


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (inline, Refused(400)),
        (inline, ValueError("a bug")),
        (inline, DeadLetter("no")),
        (threads, Refused(400)),
        (loop, Refused(400)),
    ],
)
def test_one_bad_change_does_not_take_its_call_with_it(
    partition: Partition, made: Callable[..., HandlerSpec], error: Exception
) -> None:
    calls = Calls()

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        calls(changes, ctx)
        if any((change.team_id, change.seq) == ("c", 2) for change in changes):
            raise error
        return None

    fill(partition, "abcdef", (1, 2, 3))
    answer(partition, made(handle, batch=18, attempts=2))
    assert calls.sizes[0] == 18
    assert set(calls.sizes[1:]) == {1}, "then they come one by one"
    assert [name for name, *_ in dead(partition)] == ["c2"]
    ends = Counter(seq for team in "abdef" for seq, _ in calls.of(team))
    assert ends == {1: 10, 2: 10, 3: 10}, "each in the call that failed and in one of its own"
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.dead) == (17, 1)


def test_an_outage_is_tried_again_together_and_nobody_is_given_up_before_a_call_of_its_own(
    partition: Partition,
) -> None:
    calls = Calls()

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        calls(changes, ctx)
        if any(change.team_id == "b" for change in changes):
            raise Refused(503)
        return None

    fill(partition, "abc", (1,))
    answer(partition, inline(handle, attempts=3, breaker=None))  # which would open before the last attempt
    assert calls.sizes == [3, 3, 3, 1, 1, 1]
    assert dead(partition) == [("b1", 3, "Refused")]
    assert partition.books("crm").handlers["crm"].done == 2


def test_a_lane_is_blocked_by_the_first_that_ran_out_of_attempts(partition: Partition) -> None:
    fill(partition, "ab", (1, 2, 3))
    calls = Calls(a2=always(Retry()))
    spec = inline(calls, attempts=2, on_exhausted="block")
    process, _ = process_of(partition, spec)
    for _ in range(4):
        Runner(process, spec, partition.keys.partition).run()
        partition.expire_claims()
    assert calls.of("a") == [(1, 1), (2, 1), (3, 1), (2, 2)]
    assert list(partition.client.hgetall(partition.keys.blocked("crm"))) == [b"a"]
    assert partition.seqs_in("crm", "a") == [2]


@KINDS
def test_the_filter_is_asked_about_each_before_the_call(partition: Partition, made: Callable[..., HandlerSpec]) -> None:
    fill(partition, "ab", range(1, 6))
    calls = Calls(a3=once(Retry()))
    answer(partition, made(calls, when=lambda change: change.seq % 2 == 1))
    assert calls.sizes == [6, 1]
    assert calls.of("a") == [(1, 1), (3, 1), (5, 1), (3, 2)]
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.discarded) == (6, 4)


def test_a_filter_that_fails_fails_for_its_change_alone(partition: Partition) -> None:
    def picky(change: AssigneeChange) -> bool:
        if change.seq == 2:
            raise DeadLetter("can't say")
        return True

    fill(partition, ["a"], (1, 2, 3))
    answer(partition, inline(calls := Calls(), when=picky))
    assert calls.made == [[("a", 1, 1), ("a", 3, 1)]]
    assert [name for name, *_ in dead(partition)] == ["a2"]


def test_a_lost_body_in_the_middle_is_a_dead_letter_of_its_own(partition: Partition) -> None:
    fill(partition, "ab", (1, 2, 3))
    entry = partition.in_lane("crm", "a")[1].split(b" ")[0]
    partition.client.xdel(partition.keys.inbox, entry)
    calls = Calls()
    process, _ = process_of(partition, spec := inline(calls))
    Runner(process, spec, partition.keys.partition).run()
    assert calls.of("a") == [(1, 1), (3, 1)]
    assert dead(partition) == [("a2", 0, "BodyLost")]


class _Died(BaseException):
    """In place of the end of a process: nothing is settled, and the runner does not live to let go."""


def test_a_poisonous_change_is_found_out_alone_and_nobody_else_is_charged(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that it is called the process dies: whatever it had claimed is there again when the leases are over."""
    calls = Calls()

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        calls(changes, ctx)
        if any((change.team_id, change.seq) == ("c", 2) for change in changes):
            raise _Died
        return None

    fill(partition, "abcde", (1, 2, 3))
    spec = inline(handle, batch=15, attempts=3)
    for _ in range(60):
        process, _bells = process_of(partition, spec)
        try:
            Runner(process, spec, partition.keys.partition).run()
        except _Died:
            partition.expire_claims()
        if partition.balanced("crm").handlers["crm"].waiting == 0:
            break
    assert calls.sizes[0] == 15
    assert set(calls.sizes[1:]) == {1}
    assert calls.of("c") == [(1, 1), (2, 1), (3, 1), (1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]
    for team in "abde":
        assert calls.of(team) == [(1, 1), (2, 1), (3, 1)] * 2
    assert dead(partition) == [("c2", 3, "WorkerLost")]
    assert partition.books("crm").handlers["crm"].done == 14


def test_what_lost_its_process_is_called_with_nothing_beside_it(partition: Partition) -> None:
    fill(partition, "abcd", (1, 2))
    partition.lanes().claim(lanes=10, jobs=10, per_lane=10)  # by somebody who then dies
    partition.expire_claims()
    calls, beside, running, most = Calls(), threading.Event(), [], []

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        running.append(1)
        most.append(len(running))
        if len(running) > 1:
            beside.set()
        beside.wait(0.05)  # long enough for another to begin, if any may
        calls(changes, ctx)
        running.pop()

    answer(partition, threads(handle))
    assert set(calls.sizes) == {1}
    assert set(most) == {1}
    assert partition.balanced("crm").handlers["crm"].done == 8


def test_calls_of_earlier_runs_count_against_the_concurrency(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(partition, "ab", (1,))
    process, _ = process_of(partition, spec := threads(calls := Calls()))
    monkeypatch.setattr(process.lingering, "lanes", lambda handler: 30)
    Runner(process, spec, partition.keys.partition).run()
    assert calls.made == []
    monkeypatch.setattr(process.lingering, "lanes", lambda handler: 20)
    Runner(process, spec, partition.keys.partition).run()
    assert calls.sizes == [2]


def test_a_call_waits_to_be_filled_and_no_process_waits_with_it(partition: Partition) -> None:
    """The wait is from when its first change was due; a bell is asked for, for when it is over."""
    fill(partition, "ab", (1,))
    calls = Calls()
    spec = inline(calls, batch=4, batch_wait=30)
    process, bells = process_of(partition, spec)
    number = partition.keys.partition
    Runner(process, spec, number).run()
    assert calls.made == []
    ((handler, _, delay),) = bells.rung
    assert handler == "crm"
    assert 20 < delay <= 30.1
    assert not partition.client.exists(partition.keys.runner_bell("crm")), "who adds the next change rings"
    fill(partition, "ab", (2,))
    Runner(process, spec, number).run()
    assert calls.sizes == [4], "it is full, so it does not wait"
    fill(partition, "ab", (3,))
    Runner(process, spec, number).run()
    assert calls.sizes == [4]
    now = int(partition.client.time()[0]) * 1000
    partition.client.zadd(partition.keys.ready("crm"), {"a": now - 30_000})
    Runner(process, spec, number).run()
    assert calls.sizes == [4, 2], "the first has waited that long"


@KINDS
def test_a_rate_counts_calls(partition: Partition, made: Callable[..., HandlerSpec]) -> None:
    calls, teams = Calls(), [f"t{number}" for number in range(30)]
    fill(partition, teams, (1, 2))
    spec = made(calls, rate="4/h")
    process, _ = process_of(partition, spec)
    for _ in range(5):
        Runner(process, spec, partition.keys.partition).run()
    assert calls.sizes == [10, 10, 10, 10]


def test_a_team_s_rate_counts_changes(partition: Partition) -> None:
    fill(partition, "ab", range(1, 9))
    calls = Calls()
    process, _ = process_of(partition, spec := inline(calls, team_rate="3/h"))
    for _ in range(5):
        Runner(process, spec, partition.keys.partition).run()
    assert {team: [seq for seq, _ in calls.of(team)] for team in "ab"} == {"a": [1, 2, 3], "b": [1, 2, 3]}


@KINDS
def test_a_call_that_takes_too_long_is_ended(partition: Partition, made: Callable[..., HandlerSpec]) -> None:
    if made is threads:
        pytest.skip("a thread can't be interrupted")
    import asyncio
    import time

    calls = Calls()

    def plain(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        calls(changes, ctx)
        if ctx.attempts[0] == 1:
            time.sleep(30)
        return None

    async def coroutine(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        calls(changes, ctx)
        if ctx.attempts[0] == 1:
            await asyncio.sleep(30)
        return None

    fill(partition, "ab", (1,))
    answer(partition, inline(plain if made is inline else coroutine, timeout=0.05))  # type: ignore[arg-type]
    assert calls.sizes == [2, 2]
    assert [attempt for _, attempt in calls.of("a")] == [1, 2]


def test_a_handler_of_events_gets_lists_too(partition: Partition) -> None:
    types = []

    def handle(events: list[Any], ctx: BatchContext) -> None:
        types.append([(event.type, event.seq) for event in events])

    partition.sequence(change("a", 1), change("a", 2), route=to("crm"))
    answer(partition, inline(handle, on="*"))
    assert types == [[("prospect.assigneeChanged", 1), ("prospect.assigneeChanged", 2)]]


def test_a_conflating_handler_gets_one_change_of_each_prospect(partition: Partition) -> None:
    bodies = [
        change(team, seq, prospect=f"p{seq % 3}", assignee=f"m{seq}") for seq in range(1, 31) for team in ("a", "b")
    ]
    partition.sequence(*bodies, route=to(Terms("crm", conflate=True)))
    seen = []

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> object:
        seen.append([(c.team_id, c.seq, len(c.absorbed)) for c in changes])
        return {0: Retry()} if ctx.attempts[0] == 1 else None

    answer(partition, inline(handle, conflate=True))
    both = [(team, seq, 9) for team in "ab" for seq in (28, 29, 30)]
    assert [sorted(call) for call in seen] == [both, [seen[0][0]]]
    books = partition.balanced("crm").handlers["crm"]
    assert (books.done, books.conflated) == (6, 54)


def test_an_outage_opens_the_circuit_and_the_probe_is_one_change(partition: Partition) -> None:
    fill(partition, "abcdefgh", (1, 2))
    calls = Calls()

    def handle(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        calls(changes, ctx)
        raise ConnectionError

    process, _ = process_of(
        partition, spec := inline(handle, batch=16, attempts=2, breaker=Breaker(pause=0.1, longest=0.1))
    )

    def probed() -> bool:
        Runner(process, spec, partition.keys.partition).run()
        partition.expire_claims()
        return len(calls.made) == 4

    until(probed, "three probes")
    assert calls.sizes == [16, 1, 1, 1], "one call that fails for many is enough to know"
    assert {attempt for call in calls.made for *_, attempt in call} <= {1, 2}
    books = partition.balanced("crm").handlers["crm"]
    assert (books.dead, books.waiting) == (0, 16), "and costs nobody an attempt"
