"""The pytest fixture ``handoff``: the whole road in one process, and nothing to wait for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
import structlog

from worker import AssigneeChange, Backoff, Context, Event, Retry, api, handler, route
from worker.errors import ConfigurationError
from worker.testing import Handoff, change, changes, event


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(api, "_registry", {})
    with structlog.testing.capture_logs():
        yield


def test_from_delivery_to_calls(handoff: Handoff) -> None:
    @handler
    def push(change: AssigneeChange, ctx: Context) -> None: ...

    first, second, third = changes("ada", "ben", None, start=1)
    handoff.deliver(third, first, second, second)
    made = handoff.run()
    assert [(call.change.kind, call.change.previous_assignee_id) for call in made] == [
        ("assigned", None),
        ("reassigned", "ada"),
        ("unassigned", "ben"),
    ]
    assert handoff.calls == made
    status = handoff.status
    assert (status.accepted, status.duplicates, status.released, status.handlers["push"].done) == (4, 1, 3, 3)
    assert handoff.run() == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_attempts_come_due_at_once(handoff: Handoff, asynchronous: bool) -> None:
    def fail(ctx: Context, assignee: str | None) -> None:
        if assignee == "bad" or ctx.attempt < 3:
            raise Retry(after=3600) if assignee == "ada" else ValueError("no")

    if asynchronous:

        @handler(attempts=4, backoff=Backoff(base=600, cap=6000))
        async def push(change: AssigneeChange, ctx: Context) -> None:
            fail(ctx, change.assignee_id)
    else:

        @handler(attempts=4, backoff=Backoff(base=600, cap=6000))
        def push(change: AssigneeChange, ctx: Context) -> None:
            fail(ctx, change.assignee_id)

    began = time.monotonic()
    handoff.deliver(*changes("ada", "bad", "ben"))
    made = handoff.run()
    assert time.monotonic() - began < 60  # and not hours
    assert [(call.change.assignee_id, call.attempt) for call in made] == [
        *[("ada", attempt) for attempt in (1, 2, 3)],
        *[("bad", attempt) for attempt in (1, 2, 3, 4)],
        *[("ben", attempt) for attempt in (1, 2, 3)],
    ]
    assert [(letter.handler, letter.error, letter.text, letter.attempts) for letter in handoff.dead] == [
        ("push", "ValueError", "no", 4)
    ]
    assert handoff.dead[0].event_id == made[3].change.event_id


def test_an_outage_opens_no_circuit_here(handoff: Handoff) -> None:
    @handler(attempts=200, rate="1/1h")  # more than fit between two looks at a circuit
    def push(change: AssigneeChange, ctx: Context) -> None:
        raise httpx.ConnectError("away")

    handoff.deliver(change("ada"), change("ben", team="other"))
    assert len(handoff.run()) == 400
    assert len(handoff.dead) == 2


def test_what_is_late_stale_conflated_or_an_echo_is_as_in_life(handoff: Handoff) -> None:
    @handler
    def newest(change: AssigneeChange, ctx: Context) -> None: ...

    @handler(late="all", unchanged=True)
    def everything(change: AssigneeChange, ctx: Context) -> None: ...

    @handler(conflate=True)
    def joined(change: AssigneeChange, ctx: Context) -> None: ...

    history = changes("ada", "ben", "cy", start=1)
    handoff.deliver(history[0])
    handoff.run()
    handoff.deliver(history[2], change("cy", type="thread.assigned", seq=4))
    handoff.run()
    handoff.deliver(history[1])
    handoff.run()
    seen = {
        name: [(c.change.seq, c.change.kind, c.change.stale) for c in handoff.calls if c.handler == name]
        for name in ("newest", "everything")
    }
    assert seen["newest"] == [(1, "assigned", False), (3, "reassigned", False)]
    assert seen["everything"] == [
        (1, "assigned", False),
        (3, "reassigned", False),
        (4, "unchanged", False),
        (2, "assigned", True),
    ]
    assert (handoff.status.late, handoff.status.stale) == (1, 1)
    handoff.clear()
    assert (handoff.calls, handoff.status.accepted) == ([], 0)
    handoff.use("joined")
    handoff.deliver(*changes("ada", "ben", "cy", start=1))
    handoff.run()
    status = handoff.status.handlers["joined"]
    assert status.done + status.conflated == 3


def test_events_batches_and_routes(handoff: Handoff) -> None:
    @handler(on="message.*")
    def count(message: Event, ctx: Context) -> None: ...

    @handler(batch=10, batch_wait=60)
    async def many(changes: list[AssigneeChange], ctx: Any) -> None: ...

    route(to="crm.push", queue="crm", broker="redis://127.0.0.1:1/0")
    handoff.deliver(event("message.created", {"id": "m1"}), change("ada"), change("ben", prospect="p2", version=2))
    handoff.deliver(event("message.deleted").document, event("message.edited").raw)
    handoff.run()
    by_name = {name: [c for c in handoff.calls if c.handler == name] for name in ("count", "many", "crm.push")}
    assert [call.change.type for call in by_name["count"]] == ["message.created", "message.deleted", "message.edited"]
    assert sum(len(call.changes) for call in by_name["many"]) == 2
    assert len(by_name["crm.push"]) == 2


def test_what_can_not_be_read_is_quarantined(handoff: Handoff) -> None:
    @handler
    def push(change: AssigneeChange, ctx: Context) -> None: ...

    handoff.deliver(b"{", change("ada"))
    handoff.run()
    assert (handoff.status.quarantined, handoff.status.reasons, len(handoff.calls)) == (1, ["not_json"], 1)


def test_a_blocked_lane_ends_the_run(handoff: Handoff) -> None:
    @handler(attempts=2, on_exhausted="block")
    def push(change: AssigneeChange, ctx: Context) -> None:
        raise ValueError

    handoff.deliver(*changes("ada", "ben"))
    assert len(handoff.run()) == 2
    assert handoff.status.blocked == [("push", "team1")]
    assert handoff.status.handlers["push"].waiting == 2


def test_a_module_s_handlers(handoff: Handoff, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("made_up")
    monkeypatch.setitem(sys.modules, "made_up", module)
    exec(
        "from worker import handler\n@handler\ndef one(change, ctx): ...\n@handler\ndef two(change, ctx): ...",
        module.__dict__,
    )

    @handler
    def third(change: AssigneeChange, ctx: Context) -> None: ...

    handoff.use(module)
    handoff.deliver(change("ada"))
    assert [call.handler for call in handoff.run()] == ["one", "two"]
    with pytest.raises(ConfigurationError, match="defines no handler"):
        handoff.use(sys)


def test_without_handlers_it_says_so(handoff: Handoff) -> None:
    handoff.deliver(change("ada"))
    with pytest.raises(ConfigurationError, match="import your module"):
        handoff.run()


def test_the_environment_changes_nothing(handoff_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_GAP_WAIT", "1h")
    monkeypatch.setenv("HANDOFF_HELD_MAX", "nonsense")
    monkeypatch.setenv("HANDOFF_REDIS_URL", "nonsense")

    @handler
    def push(change: AssigneeChange, ctx: Context) -> None: ...

    found = Handoff(handoff_server)
    found.deliver(change("ada", seq=7))
    assert len(found.run()) == 1
    found.close()
