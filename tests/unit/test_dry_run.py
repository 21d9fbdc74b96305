"""A dry run shows what would be called, calls nothing, and leaves order and books as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from tests.runtime_kit import lane, run, spec_of
from worker import AssigneeChange
from worker.runtime.dry_run import dry


def never(*_: Any) -> None:
    raise AssertionError("called in a dry run")


async def never_either(*_: Any) -> None:
    raise AssertionError("called in a dry run")


def what(change: AssigneeChange) -> object:
    return {"prospect": change.prospect.key, "owner": change.assignee_id}


@pytest.mark.parametrize("function", [never, never_either])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_changes_are_shown_in_order_and_their_jobs_discarded(function: Any, concurrency: int) -> None:
    one = lane("a", 1, 2)
    with structlog.testing.capture_logs() as logs:
        run(dry(spec_of(function, concurrency=concurrency, preview=what)), one)
    assert (one.done, one.discarded, one.failed) == (0, 2, None)
    assert [(line["event"], line["event_id"]) for line in logs] == [("dry_run", "a-1"), ("dry_run", "a-2")]
    assert logs[0]["would"] == {"prospect": "p", "owner": "m1"}


def test_without_a_preview_the_ids_are_shown() -> None:
    with structlog.testing.capture_logs() as logs:
        run(dry(spec_of(never)), lane("a", 1))
    assert "event_id='a-1'" in logs[0]["would"]


@pytest.mark.parametrize("function", [never, never_either])
def test_each_of_a_batch_is_shown_and_discarded(function: Any) -> None:
    made = dry(spec_of(function, batch=10, preview=str))
    with structlog.testing.capture_logs() as logs:
        changes = [change_of(number) for number in (1, 2)]
        answer = made.function(changes, None)
        answers = asyncio.run(answer) if made.is_async else answer
    assert [type(each).__name__ for each in answers] == ["Discard", "Discard"]
    assert [line["event_id"] for line in logs] == ["a-1", "a-2"]


def change_of(number: int) -> AssigneeChange:
    from tests.store_kit import change
    from worker import Event

    return AssigneeChange(Event(change("a", number)), kind="assigned")
