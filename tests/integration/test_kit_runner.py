"""worker.testing's ``run_to_end`` beside the real runner on a real server: the same calls, and the same ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
import structlog

from tests.runtime_kit import process_of, spec_of
from tests.store_kit import partition_on, to
from worker import AssigneeChange, Backoff, DeadLetter, Discard, Retry
from worker.core.dispatch import Terms
from worker.core.handlers import HandlerSpec
from worker.core.retry import AFTER_MAX
from worker.runtime.runner import Runner
from worker.store.dead import DeadFilter, list_dead
from worker.store.pages import Window
from worker.testing import changes, run_to_end
from worker.testing.calls import Call, observed


def answer(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("PUT", "https://crm.example")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status))


ACTS: list[Callable[[], BaseException | None]] = [
    *[lambda: None] * 6,
    lambda: ValueError("x"),
    lambda: Retry(after=2 * AFTER_MAX),
    lambda: Retry("again"),
    lambda: DeadLetter("no"),
    lambda: Discard("no"),
    lambda: answer(404),
    lambda: answer(503),
    lambda: answer(409),
    lambda: SystemExit(1),
    lambda: ExceptionGroup("several", [ValueError(), answer(400)]),
]


def act(seed: int, event_id: str, attempt: int) -> BaseException | None:
    """What a call of this event in this attempt does, by the seed alone."""
    return random.Random(f"{seed} {event_id} {attempt}").choice(ACTS)()


def plain(seed: int) -> Callable[..., Any]:
    def function(change: AssigneeChange, ctx: Any) -> None:
        if error := act(seed, change.event_id, ctx.attempt):
            raise error

    return function


def coroutine(seed: int) -> Callable[..., Any]:
    async def function(change: AssigneeChange, ctx: Any) -> None:
        if error := act(seed, change.event_id, ctx.attempt):
            raise error

    return function


def batch(seed: int) -> Callable[..., Any]:
    """Answers for each."""

    async def function(given: Sequence[AssigneeChange], ctx: Any) -> Any:
        errors = [act(seed, change.event_id, attempt) for change, attempt in zip(given, ctx.attempts, strict=True)]
        return [ValueError() if isinstance(error, SystemExit) else error for error in errors]

    return function


def whole(seed: int) -> Callable[..., Any]:
    """Fails as a whole by the first that fails."""

    def function(given: Sequence[AssigneeChange], ctx: Any) -> None:
        for change, attempt in zip(given, ctx.attempts, strict=True):
            if error := act(seed, change.event_id, attempt):
                raise error

    return function


def made(kind: str, seed: int) -> HandlerSpec:
    function = {"plain": plain, "async": coroutine, "batch": batch, "whole": whole}[kind](seed)
    options: dict[str, Any] = {"attempts": 3, "backoff": Backoff(0, 0), "breaker": None}
    options |= {"batch": 3, "batch_wait": 0.0} if kind in ("batch", "whole") else {}
    options["order_by"] = ("team", "prospect")[seed % 2]
    options["on_exhausted"] = ("dead_letter", "block")[seed // 2 % 2]
    options["late"] = ("skip_stale", "all")[seed // 4 % 2]
    if seed % 3 == 0:
        options["when"] = lambda change: change.assignee_id != "c"
    return spec_of(function, **options)


def history(kind: str, seed: int) -> list[AssigneeChange]:
    """One lane for batches, for which lanes share a call is the claim's affair."""
    prospects = ("p",) if kind in ("batch", "whole") else ("p", "q")
    rng = random.Random(seed)
    found, start = [], 1
    for prospect in prospects:
        # Never the same owner twice: those are echoes, which are not the runner's.
        owners = [("a", "b", "c")[(place + rng.randint(0, 1)) % 3 if not place else place % 3] for place in range(1, 6)]
        found += changes(*owners, prospect=prospect, team="t", start=start)
        start += len(owners)
    return found


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def by_lane(calls: Sequence[Call], order_by: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for call in calls:
        lane = call.changes[0].prospect.key if order_by == "prospect" else "t"
        marks = [(change.event_id, change.late, change.stale) for change in call.changes]
        found.setdefault(lane, []).append((marks, call.attempts, call.idempotency_keys))
    return found


@pytest.mark.parametrize("kind", ["plain", "async", "batch", "whole"])
def test_it_makes_the_calls_that_the_runner_makes_and_ends_alike(server_url: str, prefix: str, kind: str) -> None:
    for seed in range(12):
        spec, given = made(kind, seed), history(kind, seed)
        ours: list[Call] = []
        journeys = run_to_end(observed(spec, ours), given)
        theirs: list[Call] = []
        with partition_on(server_url, f"{prefix}-{seed}") as partition:
            route = to(Terms("crm", spec.order_by))
            partition.sequence(*(change.event.raw for change in given), route=route)
            process, _ = process_of(partition, observed(spec, theirs))
            for _ in range(200):
                Runner(process, process.registry["crm"], partition.keys.partition).run()
                books = partition.books("crm").handlers["crm"]
                blocked = partition.client.hlen(partition.keys.blocked("crm"))
                lanes = partition.client.zcard(partition.keys.ready("crm"))
                if lanes == blocked:
                    break
                ready = partition.keys.ready("crm")
                for lane, due in partition.client.zrange(ready, 0, -1, withscores=True):
                    if due != float("inf"):
                        partition.client.zadd(ready, {lane: 1})
            else:
                raise AssertionError("the runner does not come to an end")
            dead = list_dead(partition.client, [partition.keys], DeadFilter(), Window(), 100).records

        kinds = [journey.kind for journey in journeys]
        context = f"{kind}, seed {seed}"
        assert by_lane(theirs, spec.order_by) == by_lane(ours, spec.order_by), context
        assert (books.done, books.discarded, books.dead) == (
            kinds.count("done"),
            kinds.count("discarded"),
            kinds.count("dead_letter"),
        ), context
        assert books.waiting == len(kinds) - books.done - books.discarded - books.dead, context
        assert blocked == kinds.count("blocked"), context
        ends = {journey.last.error for journey in journeys if journey.kind == "dead_letter"}
        assert {letter.error for letter in dead} == ends, context
