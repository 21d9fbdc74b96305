"""worker.testing's ``run`` and ``run_to_end``, without a server: what becomes of a call, as a value."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog

from worker import AssigneeChange, Backoff, Context, DeadLetter, Discard, Retry, api, handler, route
from worker.errors import ConfigurationError
from worker.testing import change, changes, event, run, run_to_end
from worker.testing.calls import observed, spec_of


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(api, "_registry", {})
    with structlog.testing.capture_logs():
        yield


def answer(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("PUT", "https://crm.example")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, headers=headers))


def raising(error: BaseException, **options: Any) -> Any:
    def plain(change: AssigneeChange, ctx: Context) -> None:
        raise error

    async def coroutine(change: AssigneeChange, ctx: Context) -> None:
        raise error

    return [handler(name=f"h{place}", **options)(made) for place, made in enumerate((plain, coroutine))]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Discard("no"), ("discarded", None, None)),
        (DeadLetter("no"), ("dead_letter", None, "DeadLetter")),
        (Retry(after=5), ("retry", 5.0, "Retry")),
        (ValueError("x"), ("retry", 7.0, "ValueError")),
        (answer(404), ("dead_letter", None, "HTTPStatusError")),
        (answer(429, **{"retry-after": "30"}), ("retry", 30.0, "HTTPStatusError")),
        (answer(503), ("retry", 7.0, "HTTPStatusError")),
        (SystemExit(3), ("retry", 7.0, "SystemExit")),
    ],
)
def test_what_a_call_ends_in(error: BaseException, expected: tuple[str, float | None, str | None]) -> None:
    for function in raising(error, backoff=Backoff(base=7, cap=300)):
        outcome = run(function, change("ada"))
        assert (outcome.kind, outcome.after, outcome.error) == expected
        assert outcome.exception is error
        assert [(call.attempt, call.change.assignee_id) for call in outcome.calls] == [(1, "ada")]


def test_done_and_its_call() -> None:
    @handler
    def push(change: AssigneeChange, ctx: Context) -> str:
        return f"{change.previous_assignee_id}>{change.assignee_id}"

    given = change("ada", previous="ben", team="acme", id="e1")
    outcome = run(push, given)
    (call,) = outcome.calls
    assert (outcome.kind, outcome.attempt, call.answer) == ("done", 1, "ben>ada")
    assert (call.handler, call.idempotency_key) == ("push", "acme:e1:push")
    assert run("push", given).kind == "done"


def test_a_filter_and_what_is_not_for_it() -> None:
    @handler(when=lambda change: change.assignee_id != "bot")
    def push(change: AssigneeChange, ctx: Context) -> None: ...

    assert [o.kind for o in run(push, changes("ada", "bot", "bot"))] == ["done", "discarded", "ignored"]
    assert run(push, change("bot")).calls == ()
    assert run(push, change("ada", stale=True)).kind == "ignored"
    assert run(push, event("message.created")).kind == "ignored"


def test_a_handler_of_events_gets_events() -> None:
    @handler(on="message.*")
    def count(message: Any, ctx: Context) -> Any:
        return message.data["id"]

    assert run(count, event("message.created", {"id": "m1"})).calls[0].answer == "m1"


def test_what_the_handler_gets_is_what_was_built() -> None:
    seen = []

    @handler(late="all")
    def push(change: AssigneeChange, ctx: Context) -> None:
        seen.append(change)

    for given in (change("ada", stale=True), change("ada", previous="ben", absorbed=["e1", "e2"]), change(version=2)):
        run(push, given)
        assert seen[-1].as_dict() == given.as_dict()


def test_the_last_attempt() -> None:
    for function in raising(ValueError("x"), attempts=3):
        assert run(function, change("ada"), attempt=2).kind == "retry"
        last = run(function, change("ada"), attempt=3)
        assert (last.kind, last.attempt, last.calls[0].attempt, last.text) == ("dead_letter", 3, 3, "x")
    with pytest.raises(ValueError, match="from 1"):
        run(function, change("ada"), attempt=0)


def test_to_the_end_by_a_clock_of_its_own() -> None:
    @handler(attempts=4, backoff=Backoff(base=10, cap=25))
    def push(change: AssigneeChange, ctx: Context) -> None:
        if ctx.attempt < 4 or change.assignee_id == "bad":
            raise ValueError("x")

    journey = run_to_end(push, change("ada"))
    assert (journey.kind, journey.took, len(journey.calls)) == ("done", 55.0, 4)
    assert [(o.kind, o.attempt, o.at, o.after) for o in journey.attempts] == [
        ("retry", 1, 0.0, 10.0),
        ("retry", 2, 10.0, 20.0),
        ("retry", 3, 30.0, 25.0),
        ("done", 4, 55.0, None),
    ]
    bad = run_to_end(push, change("bad"))
    assert (bad.kind, bad.error, len(bad.attempts)) == ("dead_letter", "ValueError", 4)


def test_lanes_keep_their_order_and_hold_back_nobody_else() -> None:
    @handler(attempts=2, backoff=Backoff(base=10, cap=10), order_by="prospect", on_exhausted="block")
    def push(change: AssigneeChange, ctx: Context) -> None:
        if change.assignee_id == "bad":
            raise ValueError("x")

    history = changes("ada", "bad", "ben", prospect="p1") + changes("bea", prospect="p2")
    assert [o.kind for o in run(push, history)] == ["done", "retry", "waiting", "done"]
    journeys = run_to_end(push, history)
    assert [j.kind for j in journeys] == ["done", "blocked", "waiting", "done"]
    assert [len(j.calls) for j in journeys] == [1, 2, 0, 1]


def test_batches() -> None:
    @handler(batch=10)
    async def push(changes: list[AssigneeChange], ctx: Any) -> Any:
        return {
            c.event_id: Retry(after=9) if c.assignee_id == "later" else DeadLetter
            for c in changes
            if c.assignee_id != "ada"
        }

    given = [change(name, team=name) for name in ("ada", "later", "dead")]
    outcomes = run(push, given)
    assert [(o.kind, o.after) for o in outcomes] == [("done", None), ("retry", 9.0), ("dead_letter", None)]
    assert outcomes[0].calls == outcomes[2].calls
    assert [c.team_id for c in outcomes[0].calls[0].changes] == ["ada", "later", "dead"]


def test_a_batch_that_raises_is_called_apart() -> None:
    @handler(batch=10, attempts=2)
    def push(changes: list[AssigneeChange], ctx: Any) -> None:
        if any(c.assignee_id == "bad" for c in changes):
            raise KeyError("x")

    outcomes = run(push, given := changes("ada", "bad", "ben"))
    assert {(o.kind, o.after, o.counted) for o in outcomes} == {("retry", 0.0, False)}
    journeys = run_to_end(push, given)
    assert [j.kind for j in journeys] == ["done", "dead_letter", "done"]
    assert [[len(call.changes) for call in j.calls] for j in journeys] == [[3, 1], [3, 1, 1], [3, 1]]


def test_what_a_batch_has_overtaken_comes_again_as_stale() -> None:
    seen = []

    @handler(batch=10, late="all")
    def push(changes: list[AssigneeChange], ctx: Any) -> Any:
        seen.extend((c.assignee_id, c.late, c.stale) for c in changes)
        return {
            c.event_id: Retry() for c, n in zip(changes, ctx.attempts, strict=True) if (c.assignee_id, n) == ("ada", 1)
        }

    run_to_end(push, changes("ada", "ben"))
    assert seen == [("ada", False, False), ("ben", False, False), ("ada", True, True)]


def test_time_limits_are_real_and_leave_other_timers_alone() -> None:
    @handler(timeout=0.05)
    def slow(change: AssigneeChange, ctx: Context) -> None:
        time.sleep(30)

    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 60, 7)
        outcome = run(slow, change("ada"))
        left, interval = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (outcome.kind, outcome.error) == ("retry", "CallTimeout")
    assert 0 < left < 60
    assert (interval, rung) == (7.0, [])


def test_a_rate_costs_no_time_and_a_route_sends_nothing() -> None:
    @handler(rate="1/1h", batch=5, batch_wait=60)
    def push(changes: list[AssigneeChange], ctx: Any) -> None: ...

    route(to="crm.push", queue="crm", broker="redis://127.0.0.1:1/0")
    given = changes("ada", "ben")
    assert [o.kind for o in run(push, given)] == ["done", "done"]
    assert [o.kind for o in run("crm.push", given)] == ["done", "done"]


def test_what_only_costs_time_is_off() -> None:
    @handler(rate="1/1h", team_rate="1/1h", concurrency=8)
    def push(change: AssigneeChange, ctx: Context) -> None: ...

    spec = observed(spec_of(push), [])
    assert (spec.breaker, spec.rate, spec.team_rate, spec.concurrency) == (None, None, None, 1)


def test_a_dry_run_discards() -> None:
    @handler(dry_run=True)
    def push(change: AssigneeChange, ctx: Context) -> None:
        raise AssertionError

    assert run(push, change("ada")).kind == "discarded"


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(ConfigurationError, match=r"'crm': is not known here: none \(import its module first\)"):
        run("crm", change("ada"))


def test_a_function_without_decorator_has_the_defaults() -> None:
    def plain(change: AssigneeChange, ctx: Context) -> None:
        raise ValueError

    assert len(run_to_end(plain, change("ada")).attempts) == 11
