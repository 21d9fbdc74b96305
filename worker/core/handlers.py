"""What a handler is: a user's function and the terms on which it is called. Checked once, when it is defined."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import inf
from typing import Any, Final

from worker.core.changes import Change, ChangeKind
from worker.core.retry import Backoff
from worker.errors import ConfigurationError

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
RATE: Final = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?(s|m|h)")
DEFAULT_QUEUE: Final = "handoff.deliver"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``calls`` in any ``seconds``."""

    calls: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """``"100/10s"``, ``"5/s"``, ``"1000/h"``. Raises ``ValueError``."""
        match = RATE.fullmatch(text.replace(" ", ""))
        if match is None or int(match[1]) < 1:
            raise ValueError("must be calls per time, for instance 100/10s, 5/s or 1000/h")
        seconds = float(match[2] or 1) * {"s": 1, "m": 60, "h": 3600}[match[3]]
        if seconds <= 0:
            raise ValueError("must be calls per time, for instance 100/10s, 5/s or 1000/h")
        return cls(int(match[1]), seconds)


@dataclass(frozen=True, slots=True)
class Forward:
    """Where ``route`` sends to: a Celery task by name, on a queue of a broker (None: the one of the doorbells)."""

    task: str
    queue: str
    broker: str | None = None


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A handler as Handoff knows it.

    ``on`` is None for assignee changes, else patterns of event types. ``retries`` counts calls after the first;
    ``timeout`` is seconds per call; ``concurrency`` is how many lanes one runner works on at once.
    """

    name: str
    function: Callable[..., Any]
    on: tuple[str, ...] | None = None
    when: Callable[[Any], bool] | None = None
    queue: str = DEFAULT_QUEUE
    retries: int = 10
    timeout: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)
    rate: Rate | None = None
    concurrency: int = 1
    is_async: bool = False
    forward: Forward | None = None
    classify: Callable[[BaseException], object] | None = None

    def wants(self, event_type: str, change: Change | None) -> bool:
        """Whether an event is this handler's business. ``when`` is asked later, where the handler runs.

        Without ``on``: changes of an owner, but for echoes that change nothing and stale ones that would undo a newer
        state. With ``on``: every event of a matching type.
        """
        if self.on is not None:
            return any(fnmatchcase(event_type, pattern) for pattern in self.on)
        return change is not None and not change.stale and change.kind is not ChangeKind.UNCHANGED

    def describe(self) -> dict[str, Any]:
        """For people and for comparing workers: what was asked for, as plain JSON."""
        return {
            "name": self.name,
            "function": f"{self.function.__module__}.{_qualified(self.function)}",
            "on": "assignee changes" if self.on is None else list(self.on),
            "when": self.when is not None,
            "queue": self.queue,
            "retries": self.retries,
            "timeout": self.timeout,
            "rate": None if self.rate is None else f"{self.rate.calls}/{self.rate.seconds:g}s",
            "concurrency": self.concurrency,
            "async": self.is_async,
        }


def define(
    function: Any,
    *,
    name: Any,
    on: Any,
    when: Any,
    queue: Any,
    retries: Any,
    timeout: Any,
    backoff: Any,
    rate: Any,
    concurrency: Any,
    classify: Any = None,
) -> HandlerSpec:
    """Check what the author wrote, whatever it is. Raises ``ConfigurationError`` naming handler and option."""
    label = str(getattr(function, "__name__", type(function).__name__) if name is None else name)

    def wrong(option: str, problem: str, remedy: str = "") -> ConfigurationError:
        return ConfigurationError(f"handler {label!r}, {option}", problem, remedy)

    if not callable(function):
        raise wrong("function", "is not callable")
    if name is not None and not isinstance(name, str):
        raise wrong("name", "must be a text")
    if not NAME.fullmatch(label):
        raise wrong("name", "may have letters, digits, '_', '-' and '.' only, 64 at most", "give it another name=")
    if not _takes(function, 2):
        raise wrong("function", "must take two arguments", f"def {label}(change, ctx)")
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise wrong("function", "is a generator, so calling it would do nothing", "take the yield out")
    patterns = None if on is None else _patterns(on)
    if patterns is not None and not (patterns and all(isinstance(p, str) and p for p in patterns)):
        raise wrong("on", "must be a type or pattern of types", 'for instance on="message.*"')
    if when is not None and (not callable(when) or not _takes(when, 1)):
        raise wrong("when", "must be a function of the change that answers True or False")
    if when is not None and _is(inspect.iscoroutinefunction, when):
        raise wrong("when", "must be a plain function: what an async one gives back is always true")
    if not isinstance(queue, str) or not queue or any(c.isspace() for c in queue):
        raise wrong("queue", "must be a queue's name without spaces")
    if not _whole(retries) or retries < 0:
        raise wrong("retries", "must be a whole number, 0 or more")
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout <= 3600:
        raise wrong("timeout", "must be seconds, more than 0 and at most 3600")
    if backoff is not None and not _can_space(backoff):
        raise wrong("backoff", "must be a Backoff of seconds, 0 or more", "for instance Backoff(base=1, cap=300)")
    is_async = _is(inspect.iscoroutinefunction, function)
    if concurrency is None:
        concurrency = 64 if is_async else 1
    if not _whole(concurrency) or not 1 <= concurrency <= 1000:
        raise wrong("concurrency", "must be a whole number from 1 to 1000")
    if classify is not None and (not callable(classify) or not _takes(classify, 1)):
        raise wrong("classify", "must be a function of the exception that answers Retry, DeadLetter, Discard or None")
    if classify is not None and _is(inspect.iscoroutinefunction, classify):
        raise wrong("classify", "must be a plain function: nobody would await an async one")
    try:
        parsed = None if rate is None else Rate.parse(rate if isinstance(rate, str) else "")
    except ValueError as error:
        raise wrong("rate", str(error)) from None
    return HandlerSpec(
        name=label,
        function=function,
        on=patterns,
        when=when,
        queue=queue,
        retries=retries,
        timeout=float(timeout),
        backoff=backoff or Backoff(),
        rate=parsed,
        concurrency=concurrency,
        is_async=is_async,
        classify=classify,
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is(test: Callable[[Any], bool], function: Any) -> bool:
    """Whether ``test`` holds of a function, or of what an object is called by."""
    return test(function) or test(getattr(function, "__call__", None))  # noqa: B004 - what it does is what matters


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True  # a callable without a signature, such as some built-ins: the first call will tell
    return True


def _patterns(on: Any) -> tuple[Any, ...]:
    try:
        return (on,) if isinstance(on, str) else tuple(on)
    except TypeError:
        return ()


def _can_space(backoff: Any) -> bool:
    numbers: tuple[Any, ...] = (backoff.base, backoff.cap) if isinstance(backoff, Backoff) else (None,)
    return all(isinstance(number, int | float) and 0 <= number < inf for number in numbers)


def _qualified(function: Any) -> str:
    """A function's full name; of a callable object, such as a ``functools.partial``, its class's."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


Registry = Mapping[str, HandlerSpec]
