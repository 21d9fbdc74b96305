"""Takes a worker's hearing, for tests of the watchdog: a module of ``HANDOFF_HANDLERS``, loaded at the worker's start.

Where the file that ``MATRIX_DEAFEN`` names appears, its word says how:

    deaf      no BRPOP is sent any more; Celery's remote control goes on, so that it answers pings
    leak      every place of the consumer's prefetch is taken by a message that nobody has, as by failed late acks
    stuck     the main loop blocks, as on a socket without a time-out, and heeds no signal
    unswept   the sweeper's thread ends

With ``MATRIX_STAYS`` set the watchdog sees and says what it sees, and nobody leaves: the same worker stays as it is.
The time that is given to a main loop is cut to that given to a queue.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from kombu.transport.redis import Channel, MultiChannelPoller

from tests.matrix.handlers import noted
from worker.core import liveness
from worker.runtime.sweeper import Sweeper
from worker.runtime.watchdog import Watchdog

__all__ = ["noted"]

_poll_start = MultiChannelPoller.on_poll_start
_brpop_start = Channel._brpop_start
_sweep = Sweeper.sweep


def _word() -> str:
    path = Path(os.environ.get("MATRIX_DEAFEN", ""))
    return path.read_text() if path.is_file() else ""  # "" is the folder


def _maybe_brpop_start(channel: Any, *args: Any) -> None:
    if _word() != "deaf":
        _brpop_start(channel, *args)


def _maybe_poll_start(poller: Any) -> None:
    match _word():
        case "leak":
            for channel in poller._channels:
                channel.qos.restore_at_shutdown = False  # there is nothing to put back
                for number in range(channel.qos.prefetch_count if channel.active_queues else 0):
                    channel.qos._delivered[f"leaked {number}"] = None
        case "stuck":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1)
    _poll_start(poller)


def _maybe_sweep(sweeper: Any) -> float:
    if _word() == "unswept":
        raise SystemExit
    return _sweep(sweeper)


MultiChannelPoller.on_poll_start = _maybe_poll_start
Channel._brpop_start = _maybe_brpop_start
Sweeper.sweep = _maybe_sweep  # type: ignore[method-assign]
liveness.STUCK_AFTER = 0.0  # type: ignore[misc]
if "MATRIX_STAYS" in os.environ:
    Watchdog._leave = lambda self, condition: None  # type: ignore[method-assign]
