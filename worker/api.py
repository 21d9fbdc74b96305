"""What handler authors use. Imported by ``import worker``; light on purpose: no Celery, no Redis, no pydantic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from worker.core.breaker import Breaker
from worker.core.events import Event
from worker.core.handlers import DEFAULT_QUEUE, Forward, HandlerSpec, define
from worker.core.lanes import OrderBy, escaped
from worker.core.retry import Backoff
from worker.errors import ConfigurationError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

Function = TypeVar("Function", bound=Callable[..., Any])

BREAKER: Final = Breaker()

_registry: dict[str, HandlerSpec] = {}


class Signal(Exception):
    """Base of the outcomes that a handler chooses by raising; anything else that it raises is retried."""


class Retry(Signal):
    """Try this job again, ``after`` seconds if given, else after the usual backoff. Counts as an attempt."""

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        # Converted here, in the handler's own code, where an error is the handler's: a header's text is a likely value.
        self.after = None if after is None else float(after)
        if self.after is not None and isnan(self.after):
            raise ValueError("after is not a number of seconds")
        super().__init__(reason)


class Discard(Signal):
    """This job needs no work after all. It is counted as discarded, and the lane goes on."""


class DeadLetter(Signal):
    """This job can't succeed: to the dead letters at once, without more attempts. The lane goes on."""


class CallTimeout(Exception):
    """The call took longer than its handler's ``timeout``. Raised inside a plain function, which may clean up."""


class Context:
    """The circumstances of one call.

    ``handler`` is the handler's name, ``attempt`` counts from 1, ``idempotency_key`` is the same for every attempt and
    every doubled call of this event and handler: pass it on to whatever can drop repeats.
    """

    __slots__ = ("_event", "_log", "attempt", "handler")

    def __init__(self, handler: str, event: Event, attempt: int) -> None:
        self.handler = handler
        self.attempt = attempt
        self._event = event
        self._log: FilteringBoundLogger | None = None

    @property
    def idempotency_key(self) -> str:
        # Handlers' names have no colon. A team's that has one must not read like another team's with another event.
        return f"{escaped(self._event.team_id)}:{self._event.id}:{self.handler}"

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger that knows handler, team, event and attempt."""
        if self._log is None:
            import structlog

            self._log = structlog.get_logger(self.handler).bind(
                handler=self.handler, team_id=self._event.team_id, event_id=self._event.id, attempt=self.attempt
            )
        return self._log


class BatchContext:
    """The circumstances of one call of a batch handler.

    ``attempts`` and ``idempotency_keys`` are in the order of the changes: one each, as in ``Context``.
    """

    __slots__ = ("_events", "_keys", "_log", "attempts", "handler")

    def __init__(self, handler: str, events: Sequence[Event], attempts: Sequence[int]) -> None:
        self.handler = handler
        self.attempts = tuple(attempts)
        self._events = events
        self._keys: tuple[str, ...] | None = None
        self._log: FilteringBoundLogger | None = None

    @property
    def idempotency_keys(self) -> tuple[str, ...]:
        if self._keys is None:
            self._keys = tuple(_key(self.handler, event) for event in self._events)
        return self._keys

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger that knows the handler and the number of changes."""
        if self._log is None:
            import structlog

            self._log = structlog.get_logger(self.handler).bind(handler=self.handler, changes=len(self.attempts))
        return self._log


def _key(handler: str, event: Event) -> str:
    # Handlers' names have no colon. A team's that has one must not read like another team's with another event.
    return f"{escaped(event.team_id)}:{event.id}:{handler}"


@overload
def handler(function: Function, /) -> Function: ...


@overload
def handler(
    *,
    name: str | None = None,
    on: str | Iterable[str] | None = None,
    when: Callable[[Any], bool] | None = None,
    queue: str = DEFAULT_QUEUE,
    attempts: int | None = None,
    retries: int | None = None,
    timeout: float = 30.0,
    backoff: Backoff | None = None,
    rate: str | None = None,
    team_rate: str | None = None,
    concurrency: int | None = None,
    order_by: OrderBy = "team",
    on_exhausted: Literal["dead_letter", "block"] = "dead_letter",
    late: Literal["skip_stale", "all"] = "skip_stale",
    unchanged: bool = False,
    conflate: bool = False,
    batch: int | None = None,
    batch_wait: float | None = None,
    classify: Callable[[BaseException], object] | None = None,
    breaker: Breaker | None = BREAKER,
    preview: Callable[[Any], object] | None = None,
    dry_run: bool = False,
) -> Callable[[Function], Function]: ...


def handler(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    on: str | Iterable[str] | None = None,
    when: Callable[[Any], bool] | None = None,
    queue: str = DEFAULT_QUEUE,
    attempts: int | None = None,
    retries: int | None = None,
    timeout: float = 30.0,
    backoff: Backoff | None = None,
    rate: str | None = None,
    team_rate: str | None = None,
    concurrency: int | None = None,
    order_by: OrderBy = "team",
    on_exhausted: Literal["dead_letter", "block"] = "dead_letter",
    late: Literal["skip_stale", "all"] = "skip_stale",
    unchanged: bool = False,
    conflate: bool = False,
    batch: int | None = None,
    batch_wait: float | None = None,
    classify: Callable[[BaseException], object] | None = None,
    breaker: Breaker | None = BREAKER,
    preview: Callable[[Any], object] | None = None,
    dry_run: bool = False,
) -> Callable[..., Any]:
    """Register a function ``(change, ctx)``, plain or ``async``, as a handler. It stays the function it was.

    - ``name``: default, the function's. It names the queue of waiting work, so renaming a handler leaves that behind.
    - ``on``: a pattern or patterns of event types, such as ``"message.*"``: then the first argument is an ``Event``.
      Without it, the handler gets every change of an owner as ``AssigneeChange``.
    - ``when``: asked just before a call; False discards the job.
    - ``queue``: the Celery queue that its work is announced on.
    - ``attempts``: calls for one job at most, default 11; ``backoff`` spaces them. ``retries=n`` is ``attempts=n+1``.
    - ``timeout``: seconds that one call may take.
    - ``rate``: the most calls per time over all workers, such as ``"100/10s"``; ``team_rate``: the same of each team.
    - ``concurrency``: lanes worked on at once by one worker process; default 128 for ``async def``, 1 otherwise.
    - ``order_by``: what is one line, called one after another: a ``"team"``, a ``"prospect"``, or None for no order.
    - ``on_exhausted``: after the last attempt, ``"dead_letter"`` and on with the next job, or ``"block"``: the lane
      waits for a person.
    - ``late``: ``"all"`` brings changes that a newer one of the prospect has overtaken too, with ``change.stale``.
    - ``unchanged``: True brings events that name the owner there is, with ``change.kind`` ``"unchanged"``.
    - ``conflate``: in a lane that has backed up, the waiting changes of a prospect become one.
    - ``batch``: the function is ``(changes, ctx)`` and gets up to so many at once, from many lanes; it waits up to
      ``batch_wait`` seconds (default 0.1) for them.
    - ``classify``: asked about each exception that is not one of the outcomes; answers with ``Retry(...)``,
      ``DeadLetter(...)`` or ``Discard(...)``, or None for the default policy (core/failures.py).
    - ``breaker``: when to leave the far side alone because it is down, for all workers; None: never.
    - ``dry_run``: True shows in the log what would be called, and discards the job; ``preview`` is a function of the
      change that answers with what to show (plain JSON, without personal data), default its ids.

    Raises ``ConfigurationError`` naming the option that can't be used.
    """

    def register(target: Function) -> Function:
        _add(
            define(
                target,
                name=name,
                on=on,
                when=when,
                queue=queue,
                attempts=attempts,
                retries=retries,
                timeout=timeout,
                backoff=backoff,
                rate=rate,
                team_rate=team_rate,
                concurrency=concurrency,
                order_by=order_by,
                on_exhausted=on_exhausted,
                late=late,
                unchanged=unchanged,
                conflate=conflate,
                batch=batch,
                batch_wait=batch_wait,
                classify=classify,
                breaker=breaker,
                preview=preview,
                dry_run=dry_run,
            )
        )
        return target

    return register if function is None else register(function)


def route(
    *,
    to: str,
    queue: str,
    broker: str | None = None,
    name: str | None = None,
    on: str | Iterable[str] | None = None,
    when: Callable[[Any], bool] | None = None,
    attempts: int | None = None,
    retries: int | None = None,
    timeout: float = 30.0,
    backoff: Backoff | None = None,
    rate: str | None = None,
    team_rate: str | None = None,
    order_by: OrderBy = "team",
    on_exhausted: Literal["dead_letter", "block"] = "dead_letter",
    late: Literal["skip_stale", "all"] = "skip_stale",
    unchanged: bool = False,
    conflate: bool = False,
    breaker: Breaker | None = BREAKER,
    dry_run: bool = False,
) -> None:
    """Send every change on to an existing Celery task: ``to`` names the task, ``queue`` its queue.

    ``broker`` is that application's broker URL, if it is not ``HANDOFF_BROKER_URL``. The task gets one argument,
    ``AssigneeChange.as_dict()`` (with ``on``: the event's document), and the idempotency key as its task id. Tasks are
    sent in order; how the far side runs them is the far side's. The other options are ``handler``'s; ``attempts`` and
    ``timeout`` are those of the sending.
    """

    def unbound(_subject: object, _ctx: Context) -> None:
        raise RuntimeError(f"the route to {to} was called outside of a worker")

    names: dict[str, Any] = {"to": to, "queue": queue}
    for option, value in names.items():
        if not isinstance(value, str) or not value or any(c.isspace() for c in value):
            raise ConfigurationError(f"route {str(name or to)!r}, {option}", "must be a name without spaces")
    spec = define(
        unbound,
        name=name or to,
        on=on,
        when=when,
        attempts=attempts,
        retries=retries,
        timeout=timeout,
        backoff=backoff,
        rate=rate,
        team_rate=team_rate,
        order_by=order_by,
        on_exhausted=on_exhausted,
        late=late,
        unchanged=unchanged,
        conflate=conflate,
        breaker=breaker,
        dry_run=dry_run,
    )
    _add(replace(spec, forward=Forward(to, queue, broker)))


def _add(spec: HandlerSpec) -> None:
    known = _registry.get(spec.name)
    if known is not None and known.function is not spec.function:
        raise ConfigurationError(
            f"handler {spec.name!r}",
            f"is defined twice, in {known.function.__module__} and {spec.function.__module__}",
            "give one of them another name=",
        )
    _registry[spec.name] = spec


def registered() -> dict[str, HandlerSpec]:
    """The handlers defined so far in this process, by name."""
    return dict(_registry)


def forget(names: Iterable[str]) -> None:
    """Take handlers back. For tests that define their own (worker/testing/plugin.py)."""
    for name in names:
        _registry.pop(name, None)
