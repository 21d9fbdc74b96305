"""Defining a handler: what is taken, and that each mistake is named by handler and option."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import worker.api
from worker.api import handler, registered, route
from worker.core.breaker import Breaker
from worker.core.changes import Change, ChangeKind
from worker.core.handlers import HandlerSpec, Rate, define, redefine
from worker.core.options import CHECKS
from worker.core.retry import Backoff
from worker.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.api, "_registry", {})


def push(change: object, ctx: object) -> None: ...


async def push_async(change: object, ctx: object) -> None: ...


async def ask(change: object) -> bool:
    return True


def defined(function: Any = push, **options: Any) -> HandlerSpec:
    return define(function, **options)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("name", ["", " ", "a b", "a/b", "ü", "x" * 65, 5, 0, True, b"push"]),
        ("on", ["", [], (), [""], ["a", 5], 5, True, 0, b"message.*"]),
        ("when", [5, "yes", False, lambda: True, lambda a, b: True, ask]),
        ("queue", ["", "a b", "a\n", None, 5]),
        ("attempts", [0, -1, 1.0, "3", True, float("nan")]),
        ("retries", [-1, 1.0, "3", True, float("nan")]),
        ("timeout", [0, -1, 3601, "30", None, True, float("nan"), float("inf")]),
        ("backoff", [5, "1s", (1, 2), 0, False, Backoff(-1), Backoff(1, -1), Backoff(float("nan")), Backoff(cap="9")]),  # type: ignore[arg-type]
        ("rate", ["", "5", "s", "0/s", "5/0s", "-5/s", "5/d", "1.5/s", "5/s/s", 5, 0, ("5", "s")]),
        ("team_rate", ["", "5", "0/s", "5/d", 5, True]),
        ("classify", [5, "yes", False, lambda: None, lambda a, b: None, ask]),
        ("preview", [5, "yes", False, lambda: None, lambda a, b: None, ask]),
        ("dry_run", [None, 0, 1, "yes", "True"]),
        (
            "breaker",
            [5, "off", True, False, Breaker(ratio=0), Breaker(calls=0), Breaker(pause=9, longest=5), Breaker("x")],
        ),  # type: ignore[arg-type]
        ("concurrency", [0, -1, 1001, 1.0, "4", True]),
        ("order_by", ["", "teams", "None", 5, False, ["team"]]),
        ("on_exhausted", ["", "dead", "deadletter", None, True, ["block"]]),
        ("late", ["", "skip", "stale", None, True, {}]),
        ("unchanged", [None, 0, 1, "yes", "True"]),
        ("conflate", [None, 0, 1, "yes", "True"]),
        ("batch", [0, -1, 1001, 1.0, "100", True]),
        ("batch_wait", [-1, 61, "1s", True, float("nan"), float("inf")]),
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


@pytest.mark.parametrize(
    ("options", "blamed", "also"),
    [
        ({"attempts": 3, "retries": 2}, "retries", "attempts"),
        ({"on": "*", "late": "all"}, "late", "on="),
        ({"on": "*", "unchanged": True}, "unchanged", "on="),
        ({"on": "prospect.*", "conflate": True}, "conflate", "on="),
        ({"order_by": None, "conflate": True}, "conflate", "order_by=None"),
        ({"late": "all", "conflate": True}, "conflate", 'late="all"'),
        ({"unchanged": True, "conflate": True}, "conflate", "unchanged=True"),
        ({"order_by": None, "on_exhausted": "block"}, "on_exhausted", "order_by=None"),
        ({"batch_wait": 1}, "batch_wait", "batch="),
        ({"batch_wait": 0.1, "batch": None}, "batch_wait", "batch="),
    ],
)
def test_options_that_cannot_go_together_are_named_and_either_alone_is_taken(
    options: dict[str, Any], blamed: str, also: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        defined(**options)
    assert caught.value.setting == f"handler 'push', {blamed}"
    assert also in str(caught.value)
    assert "\n" not in str(caught.value)
    for option, value in options.items():
        if option != "batch_wait":
            assert defined(**{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 100, "batch_wait": 0, "conflate": True, "order_by": "prospect"},
        {"batch": 1, "order_by": None, "on": "message.*"},
        {"late": "all", "unchanged": True, "order_by": "prospect", "on_exhausted": "block"},
        {"on": "*", "order_by": "prospect", "late": "skip_stale", "unchanged": False, "conflate": False},
    ],
)
def test_what_makes_sense_together_is_taken(options: dict[str, Any]) -> None:
    spec = defined(**options)
    assert {name: getattr(spec, name) for name in options if name != "on"} == {
        name: value for name, value in options.items() if name != "on"
    }


def test_without_options_a_handler_has_the_defaults_of_its_class() -> None:
    assert defined() == HandlerSpec("push", push)
    assert defined(batch=5).batch_wait == 0.1


@pytest.mark.parametrize(
    ("options", "attempts"),
    [({}, 11), ({"attempts": 1}, 1), ({"retries": 0}, 1), ({"retries": 10}, 11), ({"attempts": 7, "retries": None}, 7)],
)
def test_retries_are_the_attempts_after_the_first(options: dict[str, Any], attempts: int) -> None:
    assert defined(**options).attempts == attempts


def test_a_batch_handler_that_takes_the_wrong_arguments_is_shown_the_right_ones() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("(def push(changes, ctx))")):
        defined(lambda changes: None, name="push", batch=10)


OTHER: dict[str, Any] = {
    "on": "tag.*",
    "when": bool,
    "queue": "q",
    "attempts": 2,
    "timeout": 5,
    "backoff": Backoff(2, 9),
    "rate": "5/7s",
    "team_rate": "1000/0.125h",
    "concurrency": 3,
    "order_by": "prospect",
    "on_exhausted": "block",
    "batch": 10,
    "batch_wait": 0.5,
    "breaker": Breaker(calls=7),
}


def test_a_handler_that_is_defined_again_keeps_all_but_what_was_asked_for() -> None:
    spec = defined(**OTHER)
    assert redefine(spec, {}) == spec
    assert redefine(spec, {"attempts": 9}) == replace(spec, attempts=9)
    assert redefine(spec, {"retries": 9}) == replace(spec, attempts=10)
    assert redefine(spec, {"breaker": None}) == replace(spec, breaker=None)
    assert redefine(spec, {"rate": None}) == replace(spec, rate=None)
    assert redefine(spec, {"batch": None}) == replace(spec, batch=None, batch_wait=0.1)
    assert redefine(defined(late="all"), {"unchanged": True}) == defined(late="all", unchanged=True)
    route(to="crm.tasks.push_owner", queue="crm")
    sent = registered()["crm.tasks.push_owner"]
    assert redefine(sent, {"attempts": 2}) == replace(sent, attempts=2)


def test_a_handler_that_is_defined_again_is_checked_again() -> None:
    with pytest.raises(ConfigurationError, match=r"^handler 'push', attempts: must be a whole number"):
        redefine(defined(), {"attempts": 0})
    with pytest.raises(ConfigurationError, match=r"^handler 'push', conflate: "):
        redefine(defined(conflate=True), {"order_by": None})
    with pytest.raises(ConfigurationError, match=r"^handler 'push', retries: "):
        redefine(defined(), {"retries": 1, "attempts": 1})


def test_what_is_announced_has_every_option_as_plain_json() -> None:
    for spec in (defined(), defined(**OTHER), defined(push_async, conflate=True)):
        told = json.loads(json.dumps(spec.describe()))
        assert set(told) == {*CHECKS, "name", "function", "async", "to", "overridden"} - {"retries"}
    assert defined(**OTHER).describe()["team_rate"] == "1000/450s"
    assert defined(**OTHER).describe()["backoff"] == {"base": 2, "cap": 9}


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
    assert spec.concurrency == (128 if is_async else 1)
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


@pytest.mark.parametrize("late", ["skip_stale", "all"])
@pytest.mark.parametrize("unchanged", [False, True])
def test_stale_changes_and_echoes_come_to_who_asks_for_them(late: str, unchanged: bool) -> None:
    spec = defined(late=late, unchanged=unchanged)
    assert spec.wants("prospect.assigneeChanged", CHANGED)
    assert spec.wants("prospect.assigneeChanged", STALE) is (late == "all")
    assert spec.wants("thread.assigned", ECHO) is unchanged
    assert not spec.wants("message.created", None)


def test_the_decorator_leaves_the_function_what_it_was() -> None:
    assert handler(push) is push
    assert handler(name="again", attempts=1)(push_async) is push_async
    assert registered()["push"].function is push
    assert registered()["again"].attempts == 1


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
    assert (spec.on, spec.attempts) == (("tag.*",), 3)
    assert spec.forward is not None
    assert (spec.forward.task, spec.forward.queue) == ("crm.tasks.push_owner", "crm")


def test_the_decorator_hands_on_every_option() -> None:
    handler(**OTHER)(push)
    assert registered()["push"] == defined(**OTHER)
    handler(late="all", unchanged=True, retries=4)(push)
    assert registered()["push"] == defined(late="all", unchanged=True, retries=4)
    handler(conflate=True)(push)
    assert registered()["push"] == defined(conflate=True)


def test_a_route_hands_on_the_options_that_a_sending_can_have() -> None:
    without = {"queue", "concurrency", "batch", "batch_wait", "classify", "preview"}
    assert set(handler.__annotations__) - set(route.__annotations__) == without - {"queue"} | {"function"}
    for options in (OTHER, {"late": "all", "unchanged": True, "retries": 4}, {"conflate": True}):
        given = {name: value for name, value in options.items() if name not in without}
        route(to="t", queue="crm", **given)
        made = registered()["t"]
        expected = define(made.function, name="t", **given)
        assert made == replace(expected, forward=made.forward)
        worker.api._registry.clear()


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
