"""What a handler is: a user's function and the terms on which it is called. Checked once, when it is defined."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
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
            "function": f"{self.function.__module__}.{self.function.__qualname__}",
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
) -> HandlerSpec:
    """Check what the author wrote, whatever it is. Raises ``ConfigurationError`` naming handler and option."""
    label = str(name or getattr(function, "__name__", type(function).__name__))

    def wrong(option: str, problem: str, remedy: str = "") -> ConfigurationError:
        return ConfigurationError(f"handler {label!r}, {option}", problem, remedy)

    if not callable(function):
        raise wrong("function", "is not callable")
    if not NAME.fullmatch(label):
        raise wrong("name", "may have letters, digits, '_', '-' and '.' only, 64 at most", "give it another name=")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise wrong("function", "must take two arguments", f"def {label}(change, ctx)") from None
    except ValueError:
        pass  # a callable without a signature, such as some built-ins: the first call will tell
    patterns = None if on is None else (on,) if isinstance(on, str) else tuple(on)
    if patterns is not None and not (patterns and all(isinstance(p, str) and p for p in patterns)):
        raise wrong("on", "must be a type or pattern of types", 'for instance on="message.*"')
    if when is not None and not callable(when):
        raise wrong("when", "must be a function of the change that answers True or False")
    if not isinstance(queue, str) or not queue or any(c.isspace() for c in queue):
        raise wrong("queue", "must be a queue's name without spaces")
    if not _whole(retries) or retries < 0:
        raise wrong("retries", "must be a whole number, 0 or more")
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout <= 3600:
        raise wrong("timeout", "must be seconds, more than 0 and at most 3600")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
    if concurrency is None:
        concurrency = 64 if is_async else 1
    if not _whole(concurrency) or not 1 <= concurrency <= 1000:
        raise wrong("concurrency", "must be a whole number from 1 to 1000")
    try:
        parsed = None if rate is None else Rate.parse(rate)
    except (ValueError, AttributeError) as error:
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
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Registry = Mapping[str, HandlerSpec]
