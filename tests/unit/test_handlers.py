"""Defining a handler: what is taken, and that each mistake is named by handler and option."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import worker.api
from worker.api import handler, registered, route
from worker.core.changes import Change, ChangeKind
from worker.core.handlers import HandlerSpec, Rate, define
from worker.core.retry import Backoff
from worker.errors import ConfigurationError

DEFAULTS: dict[str, Any] = {
    "name": None,
    "on": None,
    "when": None,
    "queue": "handoff.deliver",
    "retries": 10,
    "timeout": 30.0,
    "backoff": None,
    "rate": None,
    "concurrency": None,
    "classify": None,
}


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.api, "_registry", {})


def push(change: object, ctx: object) -> None: ...


async def push_async(change: object, ctx: object) -> None: ...


async def ask(change: object) -> bool:
    return True


def defined(function: Any = push, **options: Any) -> HandlerSpec:
    return define(function, **DEFAULTS | options)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("name", ["", " ", "a b", "a/b", "ü", "x" * 65, 5, 0, True, b"push"]),
        ("on", ["", [], (), [""], ["a", 5], 5, True, 0, b"message.*"]),
        ("when", [5, "yes", False, lambda: True, lambda a, b: True, ask]),
        ("queue", ["", "a b", "a\n", None, 5]),
        ("retries", [-1, 1.0, "3", None, True, float("nan")]),
        ("timeout", [0, -1, 3601, "30", None, True, float("nan"), float("inf")]),
        ("backoff", [5, "1s", (1, 2), 0, False, Backoff(-1), Backoff(1, -1), Backoff(float("nan")), Backoff(cap="9")]),  # type: ignore[arg-type]
        ("rate", ["", "5", "s", "0/s", "5/0s", "-5/s", "5/d", "1.5/s", "5/s/s", 5, 0, ("5", "s")]),
        ("classify", [5, "yes", False, lambda: None, lambda a, b: None, ask]),
        ("concurrency", [0, -1, 1001, 1.0, "4", True]),
    ],
)
def test_a_wrong_option_is_named_with_its_handler(option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError) as caught:
            defined(**{option: value})
        expected = str(value) if option == "name" else "push"
        assert caught.value.setting == f"handler {expected!r}, {option}", value
        assert "\n" not in str(caught.value)
        assert "object has no attribute" not in str(caught.value)


class Sync:
    def __call__(self, change: object, ctx: object) -> None: ...


class Async:
    async def __call__(self, change: object, ctx: object) -> None: ...


class Method:
    def push(self, change: object, ctx: object) -> None: ...


def generator(change: object, ctx: object) -> Iterator[int]:
    yield 1


async def async_generator(change: object, ctx: object) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function",
    [
        lambda change: None,
        lambda change, ctx, more: None,
        lambda change, ctx, *, more: None,
        lambda: None,
        generator,
        async_generator,
        None,
        "push",
        5,
    ],
)
def test_a_function_that_could_not_be_called_or_would_do_nothing_is_refused(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^handler 'h', function: "):
        defined(function, name="h")


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (push, False),
        (push_async, True),
        (Sync(), False),
        (Async(), True),
        (Method().push, False),
        (functools.partial(push), False),
        (functools.partial(push_async), True),
        (lambda *both: None, False),
        (lambda change, ctx, more=1: None, False),
        (max, False),
    ],
)
def test_anything_that_takes_change_and_context_can_be_a_handler(function: Callable[..., Any], is_async: bool) -> None:
    spec = defined(function, name="h")
    assert spec.is_async is is_async
    assert spec.concurrency == (64 if is_async else 1)
    assert isinstance(spec.describe()["function"], str)


def test_async_objects_are_really_seen_as_what_they_are() -> None:
    """The check looks at ``__call__``: a call gives something to be awaited."""
    made = Async()(None, None)
    assert asyncio.iscoroutine(made)
    made.close()


def test_a_lambda_needs_a_name_and_the_error_says_so() -> None:
    with pytest.raises(ConfigurationError, match="give it another name="):
        defined(lambda change, ctx: None)


@pytest.mark.parametrize(
    ("text", "calls", "seconds"),
    [
        ("100/10s", 100, 10),
        ("5/s", 5, 1),
        ("1000/h", 1000, 3600),
        ("3/0.5s", 3, 0.5),
        ("6 / 2 m", 6, 120),
    ],
)
def test_rates(text: str, calls: int, seconds: float) -> None:
    assert Rate.parse(text) == Rate(calls, seconds)


CHANGED = Change(ChangeKind.ASSIGNED, None, previous_known=False)
ECHO = Change(ChangeKind.UNCHANGED, "a", previous_known=True)
STALE = Change(ChangeKind.ASSIGNED, None, previous_known=False, stale=True)


@pytest.mark.parametrize(
    ("on", "event_type", "change", "wanted"),
    [
        (None, "prospect.assigneeChanged", CHANGED, True),
        (None, "thread.assigned", CHANGED, True),
        (None, "prospect.assigneeChanged", ECHO, False),
        (None, "prospect.assigneeChanged", STALE, False),
        (None, "message.created", None, False),
        ("message.*", "message.created", None, True),
        ("message.*", "messages.created", None, False),
        ("message.*", "Message.created", None, False),
        ("*", "anything", None, True),
        ("*", "prospect.assigneeChanged", STALE, True),
        ("*", "prospect.assigneeChanged", ECHO, True),
        (["tag.created", "tag.d*"], "tag.deleted", None, True),
        (["tag.created", "tag.d*"], "tag.updated", None, False),
        (iter(["tag.created"]), "tag.created", None, True),
    ],
)
def test_what_a_handler_wants(on: Any, event_type: str, change: Change | None, wanted: bool) -> None:
    spec = defined(on=on)
    assert spec.wants(event_type, change) is wanted
    assert spec.wants(event_type, change) is wanted, "patterns are kept, whatever they came in"


def test_the_decorator_leaves_the_function_what_it_was() -> None:
    assert handler(push) is push
    assert handler(name="again", retries=0)(push_async) is push_async
    assert registered()["push"].function is push
    assert registered()["again"].retries == 0


def test_two_handlers_of_one_name_are_refused_and_both_places_named() -> None:
    handler(push)
    with pytest.raises(ConfigurationError, match=r"handler 'push': is defined twice, in \S*test_handlers and"):
        handler(name="push")(push_async)
    assert registered()["push"].function is push


def test_a_module_that_is_imported_twice_defines_its_handlers_once() -> None:
    handler(push)
    handler(push)
    assert list(registered()) == ["push"]


def test_a_route_is_a_handler_named_after_its_task() -> None:
    route(to="crm.tasks.push_owner", queue="crm", on="tag.*", retries=2)
    spec = registered()["crm.tasks.push_owner"]
    assert (spec.on, spec.retries) == (("tag.*",), 2)
    assert spec.forward is not None
    assert (spec.forward.task, spec.forward.queue) == ("crm.tasks.push_owner", "crm")


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"to": "", "queue": "crm"}, "to"),
        ({"to": 5, "queue": "crm"}, "to"),
        ({"to": "t", "queue": ""}, "queue"),
        ({"to": "t", "queue": None}, "queue"),
        ({"to": "t", "queue": "a b"}, "queue"),
        ({"to": "t", "queue": "q", "rate": "fast"}, "rate"),
    ],
)
def test_a_wrong_route_is_named(options: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        route(**options)
    assert caught.value.setting.endswith(f", {setting}")
