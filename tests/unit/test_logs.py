"""Logging: one form for every library's lines, and nothing personal in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from worker.ops import logs
from worker.settings import Settings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(**settings: str) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(Settings(log_format=settings.pop("log_format", "json"), **settings), stream=stream)
    return stream


def test_a_line_is_one_json_object_with_time_level_and_event_first() -> None:
    stream = configured()
    structlog.get_logger("handoff.test").info("delivery.accepted", team_id="t1", seq=7)
    (line,) = lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert str(line["timestamp"]).endswith("Z")
    assert line["event"] == "delivery.accepted"
    assert (line["level"], line["logger"], line["team_id"], line["seq"]) == ("info", "handoff.test", "t1", 7)


def test_the_standard_librarys_lines_have_the_same_form() -> None:
    stream = configured()
    logging.getLogger("celery.worker").warning("lost %s", "connection")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("lost connection", "warning", "celery.worker")


@pytest.mark.parametrize("key", ["body", "notes", "displayName", "display_name", "bio", "authorization", "secret"])
def test_a_field_that_may_be_personal_or_secret_is_withheld(key: str) -> None:
    stream = configured()
    structlog.get_logger("handoff.test").warning("oops", **{key: "Sarah Chen"}, nested={"deep": {key: "Sarah Chen"}})
    assert "Sarah" not in stream.getvalue()
    assert lines(stream)[0][key] == logs.WITHHELD


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(log_format: str) -> None:
    stream = configured(log_format=log_format)

    def fail(notes: str) -> int:
        return int("x") + len(notes)

    try:
        fail("Sarah Chen wants a discount")
    except ValueError:
        structlog.get_logger("handoff.test").exception("handler.failed")
    assert "in fail" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    # The call's source line is quoted by any traceback; the frame's variables are what must not be there.
    assert stream.getvalue().count("Sarah Chen") == 1


def test_the_level_holds_for_both_and_chatty_libraries_are_quieter() -> None:
    stream = configured(log_level="info")
    structlog.get_logger("handoff.test").debug("no")
    logging.getLogger("anything").debug("no")
    logging.getLogger("celery.app.trace").info("Task handoff.sequence succeeded")
    logging.getLogger("celery.worker").info("ready")
    assert [line["event"] for line in lines(stream)] == ["ready"]


@pytest.mark.parametrize("library", ["httpx", "httpcore.http11"])
def test_addresses_of_requests_are_not_logged_at_any_level(library: str) -> None:
    stream = configured(log_level="debug")
    logging.getLogger(library).info("HTTP Request: GET https://far-side.test/secret-path?email=ada@example.com")
    logging.getLogger(library).debug("Set-Cookie: secret")
    logging.getLogger("anything").debug("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_configuring_again_does_not_double_the_lines() -> None:
    configured()
    stream = configured()
    logging.getLogger("x").warning("once")
    assert len(lines(stream)) == 1


def test_auto_is_json_where_there_is_no_terminal() -> None:
    stream = configured(log_format="auto")
    logging.getLogger("x").warning("once")
    assert lines(stream)[0]["event"] == "once"
