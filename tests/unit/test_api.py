"""What handler authors import, and what importing it does not bring along."""

from __future__ import annotations

import subprocess
import sys

import pytest

import worker
from worker.core.events import Event

HEAVY = ["celery", "kombu", "redis", "pydantic", "pydantic_settings", "structlog", "httpx", "click", "worker.ops"]


def test_exactly_these_names_are_public() -> None:
    assert sorted(worker.__all__) == [
        "AssigneeChange",
        "Backoff",
        "BatchContext",
        "Breaker",
        "CallTimeout",
        "ChangeKind",
        "Context",
        "DeadLetter",
        "Discard",
        "Event",
        "Prospect",
        "Retry",
        "handler",
        "route",
    ]
    assert all(hasattr(worker, name) for name in worker.__all__)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(run.stdout.split())


def test_importing_worker_brings_nothing_heavy() -> None:
    assert loaded_by("import worker") == set()


def test_the_check_of_imports_sees_what_is_imported() -> None:
    assert loaded_by("import worker, redis") == {"redis"}


def event(name: str = "e1", team: str = "t1") -> Event:
    return Event(b'{"id":"%s","seq":1,"type":"x"}' % name.encode(), team_id=team, seq=1)


def test_an_idempotency_key_is_the_same_for_every_attempt_of_a_job_and_no_other() -> None:
    key = worker.Context("push", event(), 1).idempotency_key
    assert key == "t1:e1:push"
    assert worker.Context("push", event(), 7).idempotency_key == key
    others = [
        worker.Context("pull", event(), 1),
        worker.Context("push", event("e2"), 1),
        worker.Context("push", event(team="t2"), 1),
        worker.Context("push", event("b:e1", "a"), 1),
        worker.Context("push", event("e1", "a:b"), 1),
        worker.Context("push", event("e1", "a%3Ab"), 1),
    ]
    assert len({other.idempotency_key for other in others} | {key}) == 7


@pytest.mark.parametrize(("after", "seconds"), [(None, None), (5, 5.0), (0.5, 0.5), ("30", 30.0), (-1, -1.0)])
def test_a_retry_says_when_in_seconds_even_as_a_headers_text(after: object, seconds: float | None) -> None:
    assert worker.Retry("busy", after=after).after == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("after", ["Wed, 21 Oct 2026 07:28:00 GMT", float("nan"), [], object()])
def test_a_retry_that_makes_no_sense_fails_where_it_is_written(after: object) -> None:
    """In the handler, as its own error; the runner could do nothing with it."""
    with pytest.raises((TypeError, ValueError)):
        worker.Retry(after=after)  # type: ignore[arg-type]


def test_the_log_knows_whose_call_it_is_and_is_made_once() -> None:
    ctx = worker.Context("push", event(), 3)
    assert ctx.log is ctx.log
    assert ctx.log.bind()._context == {"handler": "push", "team_id": "t1", "event_id": "e1", "attempt": 3}
