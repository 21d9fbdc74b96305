"""What an exception of a handler means: outcomes, the author's own word, and the line of code that is named."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import structlog

from tests.runtime_kit import KINDS, lane, outcome, print_nothing, run, spec_of
from worker import AssigneeChange, CallTimeout, Context, DeadLetter, Discard, Retry
from worker.core.handlers import HandlerSpec
from worker.core.retry import Failure
from worker.runtime.verdict import Failed, author_line, failed

SPEC = spec_of(print_nothing)


def failure_of(error: BaseException, spec: HandlerSpec = SPEC) -> Failure | None:
    found = failed(spec, error)
    return None if found is None else found.failure


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError(), Failure()),
        (Retry(), Failure(asked=True)),
        (Retry(after=3), Failure(after=3.0, asked=True)),
        (raised_from(Retry(after=3), ConnectionError()), Failure(after=3.0, outage=True, asked=True)),
        (raised_from(Retry(after=3), ValueError()), Failure(after=3.0, asked=True)),
        (DeadLetter(), Failure(permanent=True)),
        (Discard(), None),
        (ConnectionError(), Failure(outage=True)),
        (ExceptionGroup("a task group's", [Retry(after=3)]), Failure(after=3.0, asked=True)),
        (ExceptionGroup("a task group's", [ExceptionGroup("", [Discard()])]), None),
    ],
)
def test_what_an_exception_means(error: Exception, failure: Failure | None) -> None:
    assert failure_of(error) == failure


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (None, Failure(outage=True)),
        (Retry(after=60), Failure(after=60.0, outage=True, asked=True)),
        (Retry, Failure(outage=True, asked=True)),
        (DeadLetter("never"), Failure(permanent=True)),
        (Discard(), None),
    ],
)
def test_the_author_has_the_last_word_on_an_error(answer: object, failure: Failure | None) -> None:
    assert failure_of(ConnectionError(), spec_of(print_nothing, classify=lambda error: answer)) == failure


def test_an_outcome_that_was_raised_is_not_asked_about() -> None:
    asked: list[BaseException] = []
    assert failure_of(Retry(after=3), spec_of(print_nothing, classify=asked.append)) == Failure(after=3.0, asked=True)
    assert asked == []


def test_the_dead_letter_has_the_error_and_not_the_word_about_it() -> None:
    found = failed(spec_of(print_nothing, classify=lambda error: DeadLetter("x")), KeyError("owner"))
    assert isinstance(found, Failed)
    assert (found.error, found.text) == ("KeyError", "'owner'")


def give(answer: object) -> Callable[[BaseException], object]:
    def classify(error: BaseException) -> object:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return classify


@pytest.mark.parametrize("answer", [True, "retry", ValueError, ZeroDivisionError("private words"), SystemExit(1)])
@KINDS
def test_a_word_that_makes_no_sense_leaves_the_error_as_it_was(
    made: Callable[..., HandlerSpec], answer: object
) -> None:
    def body(change: AssigneeChange, ctx: Context) -> None:
        raise ConnectionError("private words")

    active = lane("a", 1)
    with structlog.testing.capture_logs() as lines:
        run(made(body, classify=give(answer)), active)
    assert outcome(active) == (0, 0, "ConnectionError")
    assert active.failed is not None
    assert active.failed.failure == Failure(outage=True)
    (line,) = lines
    assert (line["event"], line["handler"], line["of"]) == ("classify_failed", "crm", "ConnectionError")
    assert "private" not in json.dumps(lines)


def here(offset: int) -> str:
    import inspect

    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return f"test_verdict.py:{frame.f_back.f_lineno + offset}"


def where(active: Any) -> str:
    assert active.failed is not None
    return str(active.failed.where)


@KINDS
def test_the_line_that_is_named_is_the_authors_and_not_a_librarys(made: Callable[..., HandlerSpec]) -> None:
    lines: list[str] = []

    def body(change: AssigneeChange, ctx: Context) -> None:
        lines.append(here(1))
        json.loads("{")

    active = lane("a", 1)
    run(made(body), active)
    assert where(active) == lines[0]


def test_a_time_out_names_the_line_that_took_so_long() -> None:
    lines: list[str] = []

    def plain(change: AssigneeChange, ctx: Context) -> None:
        lines.append(here(1))
        signal.pause()

    async def coroutine(change: AssigneeChange, ctx: Context) -> None:
        lines.append(here(1))
        await asyncio.sleep(60)

    for body in (plain, coroutine):
        active = lane("a", 1)
        run(spec_of(body, timeout=0.02), active)
        assert (outcome(active)[2], where(active)) == ("CallTimeout", lines[-1])


def test_of_a_handler_that_is_installed_its_own_line_is_named() -> None:
    """Not one of what it calls; and of the handlers that come with Handoff theirs."""
    import worker.handlers.log
    import worker.runtime.calls

    ours, shipped = str(worker.runtime.calls.__file__), str(worker.handlers.log.__file__)
    frames = [(ours, 1), (httpx.__file__, 2), (json.__file__, 3), (ours, 4)]
    assert author_line(iter(frames)) == "__init__.py:2"
    assert author_line(iter([(ours, 1), (shipped, 2), (json.__file__, 3)])) == "log.py:2"
    assert author_line(iter([(ours, 1)])) == ""


def test_a_time_out_of_the_call_is_told_apart_by_its_class() -> None:
    seen: list[type[BaseException]] = []

    def classify(error: BaseException) -> object:
        seen.append(type(error))
        return DeadLetter()

    async def slow(change: AssigneeChange, ctx: Context) -> None:
        await asyncio.Event().wait()

    active = lane("a", 1)
    run(spec_of(slow, timeout=0.02, classify=classify), active)
    assert seen == [CallTimeout]
    assert active.failed is not None
    assert active.failed.failure.permanent


def test_the_status_of_an_answer_is_known_also_where_the_author_has_another_word_for_it() -> None:
    request = httpx.Request("GET", "https://far-side.test")
    refused = httpx.HTTPStatusError("no", request=request, response=httpx.Response(401, request=request))
    again = Retry("later")
    again.__cause__ = refused
    spec = spec_of(lambda change, ctx: None)
    found = [failed(spec, error) for error in (refused, again, httpx.ConnectError("no"))]
    assert [each.status for each in found if each is not None] == [401, 401, None]
    assert [each.hints.get("status", "none") for each in found if each is not None] == [401, 401, "none"]
