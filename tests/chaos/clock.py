"""Sets the clock of this process off, for all Python code that is imported afterwards.

The wall clock only: waits and time-outs are counted by the monotonic one, as they are when a machine's time is wrong.
Code in C that asks the system itself is not deceived; none of it decides anything in a worker.
"""

from __future__ import annotations

import datetime as dt
import time
from datetime import tzinfo
from typing import Any, Self


def set_off(seconds: float) -> None:
    """From now on it is ``seconds`` later (or, negative, earlier) than it is."""
    real, real_ns, true = time.time, time.time_ns, dt.datetime
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)

    class Instances(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, true)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, true)

    class Wrong(true, metaclass=Instances):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(time.time(), tz)  # type: ignore[no-any-return]

        @classmethod
        def utcnow(cls) -> Any:
            return cls.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Self:
            return cls.now()

    Wrong.__name__ = Wrong.__qualname__ = "datetime"
    dt.datetime = Wrong  # type: ignore[misc]
