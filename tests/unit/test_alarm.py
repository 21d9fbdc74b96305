"""The time limit of plain calls: it ends a call that overruns, also after one that used the timer for itself."""

from __future__ import annotations

import signal
import time

import pytest

from worker.api import CallTimeout
from worker.runtime.alarm import Alarm


def overrun() -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(1)


def test_a_call_that_overruns_is_interrupted() -> None:
    alarm = Alarm(0.05)
    with alarm:
        alarm.set()
        with pytest.raises(CallTimeout):
            overrun()
        alarm.clear()


def test_each_call_has_the_whole_time() -> None:
    """The timer was set with the first: it goes off in the second, which has some left, and is set anew for that."""
    alarm = Alarm(0.2)
    with alarm:
        alarm.set()
        time.sleep(0.15)
        alarm.clear()
        began = time.monotonic()
        alarm.set()
        with pytest.raises(CallTimeout):
            overrun()
        alarm.clear()
    assert time.monotonic() - began >= 0.2


def test_a_call_that_used_the_timer_itself_takes_no_other_s_limit_away() -> None:
    alarm = Alarm(0.05)
    with alarm:
        alarm.set()
        signal.setitimer(signal.ITIMER_REAL, 10)
        signal.setitimer(signal.ITIMER_REAL, 0)
        alarm.clear()
        alarm.set()
        with pytest.raises(CallTimeout):
            overrun()
        alarm.clear()


def test_nothing_rings_after_the_end() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with Alarm(0.05) as alarm:
        alarm.set()
        alarm.clear()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
    assert signal.getsignal(signal.SIGALRM) is before
