"""Is a worker deaf? Judged by its progress: a process that lives and answers a ping may hear nothing for ever.

A worker is **deaf** when messages wait in a queue that it reads, it has a free place for them, and none came from that
queue for a while. It is **stuck** when its main loop does not come round. One look after the other is taken in, and
only time between two looks that both say so is counted:

    heard, or busy, or nothing waits, or nobody could ask ──▶ 0
    it waits, and nothing comes ──▶ + the time between the looks ──▶ ``after``: deaf
    the same, while others take messages from that queue ──▶ + a ``SHARED``-th of it

What is counted from zero again, so that nobody leaves without need:

- The broker's connection was lost, or could not be made: the consumer is at work on it. Were it at that for ever while
  the broker answers us, the ``SHARED``-fold time ends it, for a new process may do better.
- A look came late: the process was stopped, or the machine asleep, and nothing was seen of the time between.
- All places are taken: a call may be slow. That is not deafness, and time limits end it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

EXIT_DEAF: Final = 75
"""The exit code of a worker that leaves because of this: EX_TEMPFAIL of sysexits.h, try again."""
SHARED: Final = 4.0
"""So many times longer a worker may get nothing while others empty its queues, or while it connects again and again.
With Redis the one that has waited longest is served first, so that even once would be a long time."""
STUCK_AFTER: Final = 30.0
"""Seconds for the main loop to come round, and for the sweeper. The loop does so every second; connecting to a broker
that has vanished takes 3 s a host, and looking up a name that does not resolve up to 20."""


class Condition(StrEnum):
    """What a worker's watchdog makes of it."""

    WORKING = "working"  # as far as can be told
    UNHEARD = "unheard"  # something waits for it, and it has not taken it yet
    DEAF = "deaf"  # for so long that it will not
    STUCK = "stuck"  # its main loop does not turn
    UNSWEPT = "unswept"  # the thread that rings for whatever is due has ended, or hangs

    @property
    def hopeless(self) -> bool:
        return self not in {Condition.WORKING, Condition.UNHEARD}


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen of a worker at one time. Times are seconds of any steady clock.

    ``received`` and ``waiting`` are by queue; ``waiting`` is None if the broker could not be asked, or need not be.
    ``busy`` of ``places`` are taken. ``in_line``: calls are made by the main loop itself, which can't turn meanwhile.
    ``sweeps`` counts the steps of its sweeper, whether or not it is the one that sweeps; None: its thread has ended.
    """

    at: float
    received: Mapping[str, int]
    failures: int
    turned_at: float
    busy: int
    places: int
    waiting: Mapping[str, int] | None
    in_line: bool = False
    sweeps: int | None = 0


@dataclass(frozen=True, slots=True)
class Watch:
    """What was seen so far: the last look, and the seconds for which each queue was not heard, the main loop did not
    turn, and the sweeper did not sweep."""

    last: Look | None = None
    unheard: Mapping[str, float] = field(default_factory=dict)
    still: float = 0.0
    unswept: float = 0.0

    def judge(self, after: float) -> Condition:
        """What the looks come to, when ``after`` seconds unheard are deaf; 0: it is never called deaf or stuck."""
        if self.last is None or after <= 0:
            return Condition.WORKING
        if self.still >= max(STUCK_AFTER, after):
            return Condition.STUCK
        if self.last.sweeps is None or self.unswept >= max(STUCK_AFTER, after):
            return Condition.UNSWEPT
        longest = max(self.unheard.values(), default=0.0)
        return Condition.DEAF if longest >= after else Condition.UNHEARD if longest else Condition.WORKING


def suspicious(watch: Watch, look: Look) -> bool:
    """Whether it is worth asking the broker what waits: not while messages come from every queue that is read."""
    last = watch.last
    if last is None or look.turned_at == last.turned_at or look.sweeps == last.sweeps:
        return True
    return look.busy < look.places and any(_quiet(last, look, queue) for queue in look.received)


def watched(watch: Watch, look: Look, late: float) -> Watch:
    """The watch with one more look. One that comes more than ``late`` seconds after the last is a new beginning."""
    last = watch.last
    if last is None or look.waiting is None or not 0 <= look.at - last.at <= late:
        return Watch(look)
    passed = look.at - last.at
    waited = last.waiting or {}
    failing = look.failures != last.failures
    unheard = {
        queue: watch.unheard.get(queue, 0.0) + passed / (SHARED if count < waited[queue] or failing else 1.0)
        for queue, count in look.waiting.items()
        if count and waited.get(queue) and look.busy < look.places and _quiet(last, look, queue)
    }
    turns = look.turned_at > last.turned_at or (look.in_line and look.busy > 0)
    return Watch(
        look,
        unheard,
        0.0 if turns else watch.still + passed,
        0.0 if look.sweeps != last.sweeps else watch.unswept + passed,
    )


def _quiet(last: Look, look: Look, queue: str) -> bool:
    return look.received.get(queue, 0) == last.received.get(queue, 0)
