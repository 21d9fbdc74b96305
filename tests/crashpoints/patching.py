"""Makes this process say that it has come to a point, and die there if it is told to.

Everything is patched from outside, where it is looked up; the product has no switch for it. ``install`` wraps what
points.py names, and the sending of commands, for the points in the middle of one.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import re
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

import redis.connection

from ingress.link import Link
from tests.crashpoints.points import DIRECT_WRITE, INTAKE_WRITE, WRAPPED, When, Wrapped, name_of

_COMMAND: Final = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Z]+)\r\n")
_WRITE: Final = re.compile(rb"\*\d+\r\n\$\d+\r\n(X(ADD|DEL)|H(SET|SETNX|DEL)|SET|DEL|UNLINK|[RL]PUSH|Z(ADD|REM))\r\n")


class Agent(Protocol):
    """``arrive`` is told each point with the arguments of what is wrapped, and answers whether to ``die`` there.

    ``check`` is asked before each command to the state server: the dead send none. ``waits``: the answer to a command
    that dies unread is waited for, so that the server has done it for certain.
    """

    waits: bool

    def arrive(self, point: str, args: tuple[Any, ...]) -> bool: ...

    def die(self) -> NoReturn: ...

    def check(self) -> None: ...


class _Fate(threading.local):
    """What is to happen to this thread's next script: TORN, UNREAD or nothing."""

    sending: When | None = None


def install(agent: Agent) -> Callable[[], None]:
    """Patch this process; what is returned takes it all back."""
    undo: list[tuple[Any, str, Any]] = []

    def patch(owner: Any, name: str, value: Any) -> None:
        undo.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    fate = _Fate()
    for row in WRAPPED:
        owner, name = _owner(row)
        patch(owner, name, _wrapped(row, getattr(owner, name), agent))
    from worker.store.scripts import Scripts

    patch(Scripts, "run", _script(Scripts.run, agent, fate))
    connection = redis.connection.AbstractConnection
    patch(connection, "send_packed_command", _sync_send(connection.send_packed_command, agent, fate))
    patch(Link, "exchange", _exchange(Link.exchange, agent))

    def restore() -> None:
        for owner, name, value in reversed(undo):
            setattr(owner, name, value)

    return restore


def _owner(row: Wrapped) -> tuple[Any, str]:
    module, _, path = row.target.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def _wrapped(row: Wrapped, function: Callable[..., Any], agent: Agent) -> Callable[..., Any]:
    before, after = name_of(row.name, When.BEFORE), name_of(row.name, When.AFTER)

    def at(point: str, args: tuple[Any, ...]) -> None:
        if agent.arrive(point, args):
            agent.die()

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waiting(*args: Any, **options: Any) -> Any:
            at(before, args)
            answer = await function(*args, **options)
            at(after, args)
            return answer

        return waiting

    @functools.wraps(function)
    def calling(*args: Any, **options: Any) -> Any:
        at(before, args)
        answer = function(*args, **options)
        at(after, args)
        return answer

    return calling


def _script(run: Callable[..., Any], agent: Agent, fate: _Fate) -> Callable[..., Any]:
    @functools.wraps(run)
    def running(self: Any, name: str, keys: Any, args: Any) -> Any:
        told = (self, name, keys, args)
        if agent.arrive(name_of(f"script.{name}", When.BEFORE), told):
            agent.die()
        for when in (When.TORN, When.UNREAD):
            if agent.arrive(name_of(f"script.{name}", when), told):
                fate.sending = when
        answer = run(self, name, keys, args)
        if agent.arrive(name_of(f"script.{name}", When.AFTER), told):
            agent.die()
        return answer

    return running


def _packed(command: Any) -> bytes:
    parts = [command] if isinstance(command, bytes | str) else command
    return b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts)


def _sync_send(send: Callable[..., Any], agent: Agent, fate: _Fate) -> Callable[..., Any]:
    @functools.wraps(send)
    def sending(self: Any, command: Any, check_health: bool = True) -> None:
        if self.client_name != "handoff":
            send(self, command, check_health)
            return
        agent.check()
        data, when = _packed(command), None
        if b"EVALSHA" in data[:30]:
            when, fate.sending = fate.sending, None
        elif _WRITE.search(data):
            for point in (When.BEFORE, When.TORN, When.UNREAD):
                if agent.arrive(name_of(DIRECT_WRITE, point), (data,)):
                    when = point
        if when is None:
            send(self, command, check_health)
            return
        if when is When.TORN:
            self._sock.sendall(data[: len(data) // 2])
        elif when is When.UNREAD:
            self._sock.sendall(data)
            for _ in range(len(_COMMAND.findall(data)) if agent.waits else 0):
                self.read_response()
        if agent.waits:
            self.disconnect()
        agent.die()

    return sending


def _exchange(exchange: Callable[..., Any], agent: Agent) -> Callable[..., Any]:
    @functools.wraps(exchange)
    async def exchanging(self: Link, commands: list[bytes], *terms: Any) -> None:
        data = b"".join(commands)
        for when in When:
            if when is When.AFTER:
                await exchange(self, commands, *terms)
            if agent.arrive(name_of(INTAKE_WRITE, when), (data,)):
                if when in (When.TORN, When.UNREAD):
                    self._transport.write(data[: len(data) // 2] if when is When.TORN else data)
                    while self._transport.get_write_buffer_size():  # noqa: ASYNC110 - nothing to wait on
                        await asyncio.sleep(0)
                agent.die()

    return exchanging
