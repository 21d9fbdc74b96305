"""What a handler is: a user's function and the terms on which it is called. Checked once, when it is defined."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from worker.core.breaker import Breaker
from worker.core.changes import Change, ChangeKind
from worker.core.lanes import OrderBy
from worker.core.options import (
    CHECKS,
    COMBINATIONS,
    DEFAULT_ATTEMPTS,
    DEFAULT_QUEUE,
    DEFAULTS,
    Rate,
    Unusable,
    takes,
    what_it_does,
)
from worker.core.retry import Backoff
from worker.errors import ConfigurationError

__all__ = ["DEFAULT_QUEUE", "Forward", "HandlerSpec", "OptionError", "Rate", "Registry", "define", "redefine"]

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class OptionError(ConfigurationError):
    """A handler can't be defined like this; ``option`` is the one to blame."""

    def __init__(self, handler: str, option: str, problem: str, remedy: str = "") -> None:
        self.option = option
        super().__init__(f"handler {handler!r}, {option}", problem, remedy)


@dataclass(frozen=True, slots=True)
class Forward:
    """Where ``route`` sends to: a Celery task by name, on a queue of a broker (None: the one of the doorbells)."""

    task: str
    queue: str
    broker: str | None = None


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A handler as Handoff knows it.

    ``on`` is None for assignee changes, else patterns of event types. ``attempts`` counts all calls for one job;
    ``timeout`` is seconds per call; ``concurrency`` is how many lanes one runner works on at once. ``batch`` is how
    many changes one call gets at most (None: it gets one, and no list), ``batch_wait`` the seconds it waits for them.
    ``overridden`` names the options that the environment set (runtime/overrides.py).
    """

    name: str
    function: Callable[..., Any]
    on: tuple[str, ...] | None = None
    when: Callable[[Any], bool] | None = None
    queue: str = DEFAULT_QUEUE
    attempts: int = DEFAULT_ATTEMPTS
    timeout: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)
    rate: Rate | None = None
    team_rate: Rate | None = None
    concurrency: int = 1
    order_by: OrderBy = "team"
    on_exhausted: Literal["dead_letter", "block"] = "dead_letter"
    late: Literal["skip_stale", "all"] = "skip_stale"
    unchanged: bool = False
    conflate: bool = False
    batch: int | None = None
    batch_wait: float = 0.1
    classify: Callable[[BaseException], object] | None = None
    breaker: Breaker | None = field(default_factory=Breaker)
    preview: Callable[[Any], object] | None = None
    dry_run: bool = False
    is_async: bool = False
    forward: Forward | None = None
    overridden: tuple[str, ...] = ()

    def wants(self, event_type: str, change: Change | None) -> bool:
        """Whether an event is this handler's business. ``when`` is asked later, where the handler runs.

        Without ``on``: changes of an owner. Of those, stale ones, which would undo a newer state, and echoes, which
        change nothing, only if it asks for them; a stale change is never an echo, for nobody knows what it changed.
        With ``on``: every event of a matching type.
        """
        if self.on is not None:
            return any(fnmatchcase(event_type, pattern) for pattern in self.on)
        if change is None:
            return False
        if change.stale:
            return self.late == "all"
        return self.unchanged or change.kind is not ChangeKind.UNCHANGED

    def describe(self) -> dict[str, Any]:
        """For people and for comparing workers: what was asked for, as plain JSON."""
        return {
            "name": self.name,
            "function": f"{self.function.__module__}.{_qualified(self.function)}",
            "on": "assignee changes" if self.on is None else list(self.on),
            "when": self.when is not None,
            "queue": self.queue,
            "attempts": self.attempts,
            "timeout": self.timeout,
            "backoff": {"base": self.backoff.base, "cap": self.backoff.cap},
            "rate": None if self.rate is None else str(self.rate),
            "team_rate": None if self.team_rate is None else str(self.team_rate),
            "concurrency": self.concurrency,
            "order_by": self.order_by,
            "on_exhausted": self.on_exhausted,
            "late": self.late,
            "unchanged": self.unchanged,
            "conflate": self.conflate,
            "batch": self.batch,
            "batch_wait": None if self.batch is None else self.batch_wait,
            "classify": self.classify is not None,
            "preview": self.preview is not None,
            "dry_run": self.dry_run,
            "breaker": None if self.breaker is None else str(self.breaker),
            "async": self.is_async,
            "to": None if self.forward is None else self.forward.task,
            "overridden": list(self.overridden),
        }


def define(function: Any, *, name: Any = None, **options: Any) -> HandlerSpec:
    """Check what the author wrote, whatever it is; an option that is not there has its default.

    Raises ``OptionError`` naming handler and option.
    """
    label = str(getattr(function, "__name__", type(function).__name__) if name is None else name)
    if not callable(function):
        raise OptionError(label, "function", "is not callable")
    if name is not None and not isinstance(name, str):
        raise OptionError(label, "name", "must be a text")
    if not NAME.fullmatch(label):
        problem = "may have letters, digits, '_', '-' and '.' only, 64 at most"
        raise OptionError(label, "name", problem, "give it another name=")
    if not takes(function, 2):
        first = "change" if options.get("batch") is None else "changes"
        raise OptionError(label, "function", "must take two arguments", f"def {label}({first}, ctx)")
    if what_it_does(inspect.isgeneratorfunction, function) or what_it_does(inspect.isasyncgenfunction, function):
        raise OptionError(label, "function", "is a generator, so calling it would do nothing", "take the yield out")
    values: dict[str, Any] = {}
    for option, value in {**DEFAULTS, **options}.items():
        try:
            values[option] = CHECKS[option](value)
        except Unusable as error:
            raise OptionError(label, option, error.problem, error.remedy) from None
    for option, is_so, problem, remedy in COMBINATIONS:
        if is_so(values):
            raise OptionError(label, option, problem, remedy)
    is_async = what_it_does(inspect.iscoroutinefunction, function)
    retries = values.pop("retries")
    unset = {
        "attempts": DEFAULT_ATTEMPTS if retries is None else retries + 1,
        "concurrency": 128 if is_async else 1,
        "batch_wait": 0.1,
    }
    values |= {option: default for option, default in unset.items() if values[option] is None}
    return HandlerSpec(name=label, function=function, is_async=is_async, **values)


def redefine(spec: HandlerSpec, options: Mapping[str, Any]) -> HandlerSpec:
    """``spec`` with other ``options``, checked like the first ones. Raises ``OptionError``."""
    kept = {option: getattr(spec, option) for option in CHECKS if option != "retries"}
    if (kept | dict(options))["batch"] is None:
        kept["batch_wait"] = None  # it went with batch, or was never asked for
    if "retries" in options:
        kept["attempts"] = None
    return replace(define(spec.function, name=spec.name, **kept | dict(options)), forward=spec.forward)


def _qualified(function: Any) -> str:
    """A function's full name; of a callable object, such as a ``functools.partial``, its class's."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


Registry = Mapping[str, HandlerSpec]
