"""Runs a few processes as one: passes on what they print, notices when one ends, and leaves none behind.

    start ──▶ running ──ends by itself──▶ ``ended`` tells who and how; the caller stops the rest
                 │  ▲        └──with an exit code that asks for it──▶ started again, after ``AGAIN`` seconds ─┐
                 │  └─────────────────────────────────────────────────────────────────────────────────────────┘
                 └─────stop: SIGTERM──▶ stopping ──ends, or ``grace`` is over: SIGKILL──▶ gone

Every child leads a session of its own, so Ctrl-C in the terminal reaches only us, and whatever it has forked can be
killed as a group. On Linux it is also told to end when we die, be it by SIGKILL (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

_PR_SET_PDEATHSIG: Final = 1
_CHUNK: Final = 65536  # bytes read at once
AGAIN: Final = 1.0  # seconds before a child that asked for it is started again
_DRAIN: Final = 2.0  # seconds for the last output of a process that is gone


@dataclass(frozen=True)
class Ended:
    """A child that ended without being asked: its ``name``, ``returncode`` (minus the signal's number if one killed
    it) and the last line that it printed."""

    name: str
    returncode: int
    last_line: str

    def __str__(self) -> str:
        said = self.last_line
        if self.returncode < 0:
            by = signal.Signals(-self.returncode)
            how = f"was killed by {by.name}"
            if by in {signal.SIGKILL, signal.SIGTERM}:  # by somebody else: what it said has nothing to do with that
                said = ""
        else:
            how = f"ended with exit code {self.returncode}"
        return f"the {self.name} {how}" + (f"; it said last: {said}" if said else "")


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    again: Collection[int]
    process: asyncio.subprocess.Process = field(init=False)
    reader: asyncio.Task[None] = field(init=False)
    last_line: str = ""
    stopping: bool = False


class Supervisor:
    """Use it as an async context manager: leaving it stops whatever still runs, the last started first.

    ``on_line(name, line)`` gets every line of output, as it comes.
    """

    def __init__(self, on_line: Callable[[str, str], None], *, grace: float = 6.0) -> None:
        self._on_line = on_line
        self._grace = grace
        self._children: list[_Child] = []
        self._watchers: set[asyncio.Task[None]] = set()
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
        finally:
            self.kill()
            self.ended.cancel()

    async def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], *, again: Collection[int] = ()
    ) -> None:
        """Start a child, and again whenever it ends with an exit code of ``again``.

        Raises ``OSError`` when the program can't be executed.
        """
        child = _Child(name, command, env, again)
        await self._execute(child)
        self._children.append(child)
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _execute(self, child: _Child) -> None:
        child.process = await asyncio.create_subprocess_exec(
            *child.command,
            env=child.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=tied_to_parent(),
        )
        child.reader = asyncio.create_task(self._read(child))

    async def stop(self, *names: str) -> None:
        """End the named children side by side, or all of them one after the other, the last started first.

        It returns when they and all that they forked are gone, after ``grace`` seconds of patience each.
        """
        if names:
            await asyncio.gather(*(self._stop(child) for child in self._children if child.name in names))
        else:
            for child in reversed(self._children):
                await self._stop(child)

    def kill(self) -> None:
        """End everything at once, without patience."""
        for child in self._children:
            child.stopping = True
            _kill_group(child)

    async def _stop(self, child: _Child) -> None:
        child.stopping = True
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.process.wait(), self._grace)
        _kill_group(child)
        await child.process.wait()
        await self._drained(child)

    async def _watch(self, child: _Child) -> None:
        while True:
            returncode = await child.process.wait()
            if child.stopping:
                return
            _kill_group(child)
            await self._drained(child)
            if returncode not in child.again:
                break
            self._pass_on(child, f"ended with exit code {returncode}: started again".encode())
            await asyncio.sleep(AGAIN)
            if _is_stopping(child):
                return
            await self._execute(child)
            if _is_stopping(child):  # asked to in that moment, when there was nothing to stop
                _kill_group(child)
        if not self.ended.done():
            self.ended.set_result(Ended(child.name, returncode, child.last_line))

    async def _drained(self, child: _Child) -> None:
        await asyncio.wait({child.reader}, timeout=_DRAIN)

    async def _read(self, child: _Child) -> None:
        assert child.process.stdout is not None
        rest = b""
        while chunk := await child.process.stdout.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._pass_on(child, line)
        if rest:
            self._pass_on(child, rest)

    def _pass_on(self, child: _Child, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        child.last_line = text or child.last_line
        with contextlib.suppress(OSError):  # a terminal that was closed must not keep us from stopping the children
            self._on_line(child.name, text)


def _is_stopping(child: _Child) -> bool:
    """Asked again: it may have changed while we waited."""
    return child.stopping


def _kill_group(child: _Child) -> None:
    """Kill what is left of the child's session; its id stays taken as long as anything is."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)


def tied_to_parent() -> Callable[[], None] | None:
    """What a child does first (``preexec_fn``), so that it ends when we do; None where that can't be had."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: after it, only the call itself is safe
    parent = os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between, so no signal will come
            os._exit(1)

    return tie
