"""How the processes of a worker learn that they have to end, and how long they have.

    SIGTERM ──▶ main process ──▶ notice ──▶ each process of the pool
    asked    nothing is claimed any more; what was not begun is handed back and rung for, calls go on
    over     after HANDOFF_GRACE, at once after SIGQUIT: calls are cut off, and their lanes handed back
    last     PATIENCE later: lanes of calls that can't be cut off are handed back all the same, due when we are gone
    gone     END later: the process ends, whatever holds it up

Who gives back what is in hand is the keeper, who knows of all lanes (runtime/keeper.py).

The notice is a letter in a socket that every process inherits, and that all of them look at and none takes out: so a
process that is forked after the signal finds it too, and no signal has to interrupt a handler's call to bring it. A
process that inherits nothing (started by "spawn") is asked when its pool tells it to end (runtime/process.py).
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

PATIENCE: Final = 1.0  # seconds for calls that were cut off to clean up and end
END: Final = 1.0  # seconds after that, until the process is gone for certain
KEPT: Final = END + 0.25  # seconds that lanes whose calls may run until then are kept from others
MAIN_LATER: Final = 1.0  # seconds more for the process that waits for the others
AFTER_GRACE: Final = 5.0  # seconds after the grace period in which a worker is gone, as supervisors are told
LOOK_EVERY: Final = 0.05  # seconds, once asked: for a second signal
_WARM: Final = b"w"
_COLD: Final = b"c"

log = structlog.get_logger("handoff.worker")

Notice = tuple[socket.socket, socket.socket]

_notice: Notice | None = None
_main = 0
_code = 0  # of a process that is ended by force


class Leaver(Protocol):
    """What has to do something about the end. Called from a thread of ours; may be called when nothing is left."""

    def leave(self) -> None:
        """Begin nothing more, and hand back what was not begun."""
        ...

    def let_go(self) -> None:
        """Cut off what is still running."""
        ...

    def abandon(self) -> bool:
        """Hand back what can't be cut off; whether that was anything."""
        ...


def open_notice() -> None:
    """Make what the pool's processes inherit. To be called by the main process before it forks."""
    global _notice, _main  # noqa: PLW0603 - one per worker is the point
    if _notice is None:
        _notice = socket.socketpair()
        for end in _notice:
            end.setblocking(False)
        _main = os.getpid()


def announce(*, cold: bool = False) -> None:
    """Tell every process of this worker. Safe in a signal handler."""
    if _notice is not None:
        try:
            _notice[1].send(_COLD if cold else _WARM)
        except OSError:
            return  # as full of letters as it can be


def end_with(code: int) -> None:
    """Let this process's exit code be that, too, if its calls outlast the grace period and it is ended by force."""
    global _code  # noqa: PLW0603 - as above
    _code = code


def notice_fd() -> int | None:
    """A file descriptor that becomes readable with the first announcement; nothing is to be read from it."""
    return None if _notice is None else _notice[0].fileno()


class Shutdown:
    """One process's part in it."""

    def __init__(self, grace: float = 0.0) -> None:
        self.asked = False
        self.over = False
        self._grace = grace
        self._told = threading.Event()

    def watch(self, leaver: Leaver) -> None:
        """Wait for the notice, in a thread of its own, and see ``leaver`` through the end."""
        threading.Thread(target=self._watch, args=(leaver, _notice), daemon=True, name="handoff-shutdown").start()

    def ask(self) -> None:
        """Begin the end in a process that the notice does not reach; in any other it does nothing."""
        self._told.set()

    def _watch(self, leaver: Leaver, notice: Notice | None) -> None:
        if notice is None:
            self._told.wait()
        else:
            with selectors.DefaultSelector() as selector:
                selector.register(notice[0], selectors.EVENT_READ)
                selector.select()
        self.asked = True
        _do(leaver.leave)
        end = time.monotonic() + self._grace
        while not (cold := _COLD in _letters(notice)) and time.monotonic() < end:
            time.sleep(LOOK_EVERY)
        self.over = True
        _do(leaver.let_go)
        time.sleep(PATIENCE)
        abandoned = _do(leaver.abandon)
        time.sleep(END + (MAIN_LATER if os.getpid() == _main and not abandoned else 0.0))
        log.warning("ended_by_force", pid=os.getpid())
        os._exit(_code or (1 if cold else 0))


def _do(step: Callable[[], object]) -> object:
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - the steps that follow matter all the more; leases free what is left
        log.warning("not_handed_back", error=type(error).__name__)
        return None


def _letters(notice: Notice | None) -> bytes:
    if notice is None:
        return _WARM
    try:
        return notice[0].recv(64, socket.MSG_PEEK)
    except BlockingIOError:
        return b""
