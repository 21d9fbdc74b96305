"""Interrupts a plain function that overruns its time limit, or whose process has to end."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Final, Self

from worker.api import CallTimeout

ALARM_AGAIN: Final = 1.0  # seconds: a call that caught its time-out and went on is told once more, until it ends
LEAST: Final = 0.001  # seconds; a timer of less than a microsecond is none


class CutOff(SystemExit):
    """Raised in a plain function whose process has to end and can wait no longer (runtime/shutdown.py). No ``except
    Exception`` swallows it, and what cleans up is run."""


class Alarm:
    """A time limit for plain functions: a timer signal that raises ``CallTimeout`` in the main thread.

    The timer is not set for each call, which would be two system calls for each: it goes off now and then, and is set
    anew for what the present call has left. A call may use the timer itself, so each looks whether it still runs.

    In any other thread there is no way to interrupt Python code, and this does nothing: the lane's lease is what then
    frees it (runtime/keeper.py). The previous signal handler is put back on the way out.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = 0.0  # when the present call has to end, monotonic seconds
        self._armed = False
        self._usable = False
        self._cutting_off = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        self._usable = threading.current_thread() is threading.main_thread()
        if self._usable:
            self._previous = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, self._seconds, ALARM_AGAIN)
        return self

    def __exit__(self, *_: object) -> None:
        if self._usable:
            signal.setitimer(signal.ITIMER_REAL, 0)
            # Once calls are cut off, a signal may still be on its way; by default it would end the process.
            if not self._cutting_off:
                signal.signal(signal.SIGALRM, self._previous)

    def set(self) -> None:
        """A call begins."""
        self._ends = time.monotonic() + self._seconds
        self._armed = True
        if self._usable:
            left, again = signal.getitimer(signal.ITIMER_REAL)
            if again != ALARM_AGAIN or not 0.0 < left <= self._seconds:
                signal.setitimer(signal.ITIMER_REAL, self._seconds, ALARM_AGAIN)
            if self._cutting_off:
                raise CutOff  # whoever wanted to interrupt this call came a moment too early

    def clear(self) -> None:
        """The call is over: a signal that comes from here on finds it so, and does nothing."""
        self._armed = False

    def cut_off(self) -> None:
        """Interrupt the present call, and those after it. For another thread.

        Here a flag is set, then ``_armed`` read; the other thread writes ``_armed``, then reads the flag. So no call is
        missed, and no signal is sent to a thread that does not expect it any more.
        """
        self._cutting_off = True
        if self._usable and self._armed:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _ring(self, _signal: int, _frame: FrameType | None) -> None:
        if self._armed and self._cutting_off:
            raise CutOff
        left = self._ends - time.monotonic() if self._armed else self._seconds
        if left > 0:
            signal.setitimer(signal.ITIMER_REAL, max(left, LEAST), ALARM_AGAIN)
            return
        raise CallTimeout(f"took longer than {self._seconds:g} s")
