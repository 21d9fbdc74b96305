"""What becomes of whatever a handler raises or returns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.runtime_kit import KINDS, inline, lane, outcome, run, threads
from worker import AssigneeChange, Context
from worker.core.handlers import HandlerSpec


@pytest.mark.parametrize("made", [inline, threads])
def test_a_function_that_returns_a_coroutine_is_not_reported_done(made: Callable[..., HandlerSpec]) -> None:
    """An ``async def`` under a plain decorator: nobody would await it, and every change would be lost."""

    async def handler(change: AssigneeChange, ctx: Context) -> None:
        raise AssertionError("never awaited, so never here")

    active = lane("a", 1)

    def undecorated(change: AssigneeChange, ctx: Context) -> object:
        return handler(change, ctx)

    run(made(undecorated), active)
    assert outcome(active) == (0, 0, "TypeError")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


@KINDS
@pytest.mark.parametrize("error", [Unspeakable(), ValueError("half \ud800 a character"), ValueError("x" * 10_000)])
def test_an_error_whose_text_can_not_be_had_or_stored_is_a_failure_like_any_other(
    made: Callable[..., HandlerSpec], error: Exception
) -> None:
    """In a thread it would end the thread, and the runner would wait for it for ever."""

    def body(change: AssigneeChange, ctx: Context) -> None:
        raise error

    active = lane("a", 1)
    run(made(body), active)
    assert active.failed is not None
    assert len(active.failed.text.encode()) <= 1000
