"""The options of a handler: what each may be, which can't go together, and what they are when nothing is said.

An option is checked by a function from what the author wrote to what ``HandlerSpec`` keeps, which raises ``Unusable``.
The environment's overrides go the same way (runtime/overrides.py), so a variable can't set what a decorator can't.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from worker.core.breaker import Breaker
from worker.core.lanes import ORDERS
from worker.core.retry import Backoff

RATE: Final = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?(s|m|h)")
DEFAULT_QUEUE: Final = "handoff.deliver"
DEFAULT_ATTEMPTS: Final = 11
ON_EXHAUSTED: Final = ("dead_letter", "block")
LATE: Final = ("skip_stale", "all")
MOST_IN_BATCH: Final = 1000  # about what one claim can bring
LONGEST_WAIT: Final = 60.0  # seconds


class Unusable(ValueError):
    """What is wrong with a value, and what to write instead."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem)


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

    def __str__(self) -> str:
        return f"{self.calls}/{self.seconds:g}s"


def _on(on: Any) -> tuple[str, ...] | None:
    if on is None:
        return None
    try:
        patterns = (on,) if isinstance(on, str) else tuple(on)
    except TypeError:
        patterns = ()
    if not (patterns and all(isinstance(p, str) and p for p in patterns)):
        raise Unusable("must be a type or pattern of types", 'for instance on="message.*"')
    return patterns


def _when(when: Any) -> Any:
    if when is not None and (not callable(when) or not takes(when, 1)):
        raise Unusable("must be a function of the change that answers True or False")
    if when is not None and what_it_does(inspect.iscoroutinefunction, when):
        raise Unusable("must be a plain function: what an async one gives back is always true")
    return when


def _classify(classify: Any) -> Any:
    if classify is not None and (not callable(classify) or not takes(classify, 1)):
        raise Unusable("must be a function of the exception that answers Retry, DeadLetter, Discard or None")
    if classify is not None and what_it_does(inspect.iscoroutinefunction, classify):
        raise Unusable("must be a plain function: nobody would await an async one")
    return classify


def _preview(preview: Any) -> Any:
    if preview is not None and (not callable(preview) or not takes(preview, 1)):
        raise Unusable("must be a function of the change that answers with what would be sent")
    if preview is not None and what_it_does(inspect.iscoroutinefunction, preview):
        raise Unusable("must be a plain function: nobody would await an async one")
    return preview


def _queue(queue: Any) -> str:
    if not isinstance(queue, str) or not queue or any(c.isspace() for c in queue):
        raise Unusable("must be a queue's name without spaces")
    return queue


def _timeout(timeout: Any) -> float:
    if not _number(timeout) or not 0 < timeout <= 3600:
        raise Unusable("must be seconds, more than 0 and at most 3600")
    return float(timeout)


def _backoff(backoff: Any) -> Backoff:
    if backoff is None:
        return Backoff()
    if not isinstance(backoff, Backoff) or not all(_number(n) and 0 <= n < inf for n in (backoff.base, backoff.cap)):
        raise Unusable("must be a Backoff of seconds, 0 or more", "for instance Backoff(base=1, cap=300)")
    return backoff


def _rate(rate: Any) -> Rate | None:
    if rate is None or isinstance(rate, Rate):
        return rate
    try:
        return Rate.parse(rate if isinstance(rate, str) else "")
    except ValueError as error:
        raise Unusable(str(error)) from None


def _batch_wait(wait: Any) -> float | None:
    if wait is None:
        return None
    if not _number(wait) or not 0 <= wait <= LONGEST_WAIT:
        raise Unusable(f"must be seconds, from 0 to {LONGEST_WAIT:g}")
    return float(wait)


def _breaker(breaker: Any) -> Breaker | None:
    if breaker is None:
        return None
    if not isinstance(breaker, Breaker):
        raise Unusable("must be a Breaker, or None for none", "for instance Breaker(pause=5, longest=60)")
    if (problem := breaker.problem()) is not None:
        raise Unusable(problem)
    return breaker


def _whole(least: int, most: int | None = None) -> Callable[[Any], int | None]:
    bounds = f"{least} or more" if most is None else f"from {least} to {most}"

    def check(value: Any) -> int | None:
        if value is None:
            return None
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            raise Unusable(f"must be a whole number, {bounds}")
        return int(value)

    return check


def _one_of(*choices: str | None) -> Callable[[Any], Any]:
    words = [repr(choice) for choice in choices]

    def check(value: Any) -> Any:
        if not isinstance(value, str | None) or value not in choices:
            raise Unusable(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return value

    return check


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unusable("must be True or False")
    return value


CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "on": _on,
    "when": _when,
    "queue": _queue,
    "attempts": _whole(1),
    "retries": _whole(0),
    "timeout": _timeout,
    "backoff": _backoff,
    "rate": _rate,
    "team_rate": _rate,
    "concurrency": _whole(1, 1000),
    "order_by": _one_of(*ORDERS),
    "on_exhausted": _one_of(*ON_EXHAUSTED),
    "late": _one_of(*LATE),
    "unchanged": _yes_or_no,
    "conflate": _yes_or_no,
    "batch": _whole(1, MOST_IN_BATCH),
    "batch_wait": _batch_wait,
    "classify": _classify,
    "breaker": _breaker,
    "preview": _preview,
    "dry_run": _yes_or_no,
}
"""Every option but ``name``, in the order in which they are told about."""

DEFAULTS: Final[Mapping[str, Any]] = dict.fromkeys(CHECKS) | {
    "queue": DEFAULT_QUEUE,
    "timeout": 30.0,
    "order_by": "team",
    "on_exhausted": "dead_letter",
    "late": "skip_stale",
    "unchanged": False,
    "conflate": False,
    "breaker": Breaker(),
    "dry_run": False,
}
"""As in the decorator. None where what it means is said elsewhere: by another option, or by the function."""

COMBINATIONS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], bool], str, str], ...]] = (
    (
        "retries",
        lambda o: o["retries"] is not None and o["attempts"] is not None,
        "means attempts, less one: only one of them can be given",
        "keep attempts=",
    ),
    (
        "late",
        lambda o: o["on"] is not None and o["late"] != "skip_stale",
        "is about changes of an owner, and on= asks for events: all of a type come, stale or not",
        "take one of them out",
    ),
    (
        "unchanged",
        lambda o: o["on"] is not None and o["unchanged"],
        "is about changes of an owner, and on= asks for events: all of a type come, echoes too",
        "take one of them out",
    ),
    (
        "conflate",
        lambda o: o["on"] is not None and o["conflate"],
        "joins changes of an owner, and on= asks for events, which can't be joined",
        "take one of them out",
    ),
    (
        "conflate",
        lambda o: o["order_by"] is None and o["conflate"],
        "joins changes that wait in one lane, and with order_by=None each has a lane of its own",
        'use order_by="prospect"',
    ),
    (
        "conflate",
        lambda o: o["late"] == "all" and o["conflate"],
        'is for the newest owner only, and late="all" asks for what is older',
        "take one of them out",
    ),
    (
        "conflate",
        lambda o: o["unchanged"] and o["conflate"],
        "leaves out what changes nothing, and unchanged=True asks for it",
        "take one of them out",
    ),
    (
        "on_exhausted",
        lambda o: o["order_by"] is None and o["on_exhausted"] == "block",
        "would hold back nothing: with order_by=None no job waits behind another",
        'use "dead_letter"',
    ),
    ("batch_wait", lambda o: o["batch_wait"] is not None and o["batch"] is None, "needs batch=", "for instance 100"),
)
"""(option to blame, whether it is so, problem, remedy). What is asked for is as it was written, defaults filled in."""


def takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments; True where only the first call will tell."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True  # a callable without a signature, such as some built-ins
    return True


def what_it_does(test: Callable[[Any], bool], function: Any) -> bool:
    """Whether ``test`` holds of a function, or of what an object is called by."""
    return test(function) or test(getattr(function, "__call__", None))  # noqa: B004 - what it does is what matters


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
