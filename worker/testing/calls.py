"""Handlers as tests run them: found by name or function, one call at a time, each call written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worker.api import BatchContext, Context, registered
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import HandlerSpec, define
from worker.errors import ConfigurationError
from worker.runtime.dry_run import dry

Subject = AssigneeChange | Event
"""What a handler is called with: an ``AssigneeChange``, or with ``on=`` an ``Event``."""

Handler = str | Callable[..., Any] | HandlerSpec
"""A handler's name, or its function. One without a decorator is taken as if it had ``@handler`` with all defaults."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a handler: what it got, and what it raised (``exception``) or gave back (``answer``).

    ``changes``, ``attempts`` and ``idempotency_keys`` have one item each, but for a batch handler.
    """

    handler: str
    changes: tuple[Subject, ...]
    attempts: tuple[int, ...]
    idempotency_keys: tuple[str, ...]
    answer: object = None
    exception: BaseException | None = None

    @property
    def change(self) -> Any:
        """The change, or event, of a call with one."""
        (found,) = self.changes
        return found

    @property
    def attempt(self) -> int:
        (found,) = self.attempts
        return found

    @property
    def idempotency_key(self) -> str:
        (found,) = self.idempotency_keys
        return found


def spec_of(handler: Handler) -> HandlerSpec:
    """What is registered by that name or of that function. Raises ``ConfigurationError`` for a name that nobody has."""
    if isinstance(handler, HandlerSpec):
        return handler
    known = registered()
    if isinstance(handler, str):
        if handler not in known:
            have = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(f"handler {handler!r}", f"is not known here: {have}", "import its module first")
        return known[handler]
    found = [spec for spec in known.values() if spec.function is handler]
    return found[0] if found else define(handler)


def observed(spec: HandlerSpec, calls: list[Call], crash: Callable[[Call], None] | None = None) -> HandlerSpec:
    """``spec`` as tests run it: calls are written down, and made one at a time, so that each run is like the last.

    What only costs time is off: rates and the circuit breaker. A route sends nothing. ``crash``
    is told of each call when it has ended, and may raise.
    """
    if spec.forward is not None:
        spec = replace(spec, function=_unsent)
    elif spec.dry_run:
        spec = dry(spec)
    function = spec.function

    def note(subject: Any, ctx: Any, answer: object = None, exception: BaseException | None = None) -> None:
        made = _call(spec.name, subject, ctx, answer, exception)
        calls.append(made)
        if crash is not None:
            crash(made)

    def call(subject: Any, ctx: Any) -> Any:
        try:
            answer = function(subject, ctx)
        except BaseException as error:
            note(subject, ctx, exception=error)
            raise
        note(subject, ctx, answer)
        return answer

    async def later(subject: Any, ctx: Any) -> Any:
        try:
            answer = await function(subject, ctx)
        except BaseException as error:
            note(subject, ctx, exception=error)
            raise
        note(subject, ctx, answer)
        return answer

    return replace(
        spec,
        function=later if spec.is_async else call,
        concurrency=1,
        rate=None,
        team_rate=None,
        breaker=None,
    )


def _unsent(subject: Subject, ctx: Context) -> None:
    """In place of a route's sending."""


def _call(name: str, subject: Any, ctx: Any, answer: object, exception: BaseException | None) -> Call:
    changes: Sequence[Subject]
    if isinstance(ctx, BatchContext):
        changes, attempts, keys = subject, ctx.attempts, ctx.idempotency_keys
    else:
        changes, attempts, keys = (subject,), (ctx.attempt,), (ctx.idempotency_key,)
    return Call(name, tuple(changes), attempts, keys, answer, exception)
