"""What the checks are made of: plain values, gathered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.errors import ConfigurationError
from worker.settings import Settings

Described = Mapping[str, Mapping[str, Any]]
"""Handlers by name, as ``HandlerSpec.describe`` has them."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How far this machine's clock is ahead of a server's, in ms, give or take ``error``: half of a round trip."""

    ahead: float
    error: float

    @property
    def certain(self) -> float:
        """By how much they differ at least, ms."""
        return max(0.0, abs(self.ahead) - self.error)


@dataclass(frozen=True, slots=True)
class Machine:
    """Of a server on this machine: what Linux says of memory. Bytes; None where it does not say."""

    available: int | None = None
    overcommit: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One state server, or one of its nodes. ``address`` is host:port or a socket's path, without user and password.

    ``error`` says why it could not be asked. ``info`` is INFO, ``config`` its directives, those it let us see.
    ``refused`` are the commands that our user may not use.
    """

    address: str
    error: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    refused: Sequence[str] = ()
    clock: Clock | None = None
    machine: Machine | None = None

    @property
    def kind(self) -> str:
        return "Valkey" if "valkey_version" in self.info else "Redis"

    @property
    def version(self) -> tuple[int, ...]:
        """Major and minor, and so on; () where it is not known."""
        text = str(self.info.get("valkey_version") or self.info.get("redis_version") or "")
        return tuple(int(part) for part in text.split(".") if part.isdigit())

    @property
    def named(self) -> str:
        """Kind and version, for people."""
        return f"{self.kind} {'.'.join(map(str, self.version)) or 'of an unknown version'}"

    def number(self, name: str) -> int:
        """A figure of INFO; 0 where it has none."""
        return int(self.info.get(name) or 0)


@dataclass(frozen=True, slots=True)
class Broker:
    """``error``: why nothing can be put on it, in a line without its password; empty where it answers."""

    address: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has beaten within a minute. ``handlers`` are digests of its definitions by name; ``ahead`` is its
    clock's lead over the server's, ms. ``trouble``: what keeps it from work, by its own word or because it is
    ``silent``, which a worker that was killed is, too."""

    name: str
    handlers: Mapping[str, str]
    queues: Sequence[str]
    ahead: float
    trouble: str = ""
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Installed:
    """What is kept on the state server. ``partitions`` None: nothing has started there. ``waiting`` are jobs by
    handler, ``bells`` doorbells by queue, None where the broker is another server. ``error``: it could not be read."""

    partitions: int | None = None
    announced: Described = field(default_factory=dict)
    sweeping: bool = False
    waiting: Mapping[str, int] = field(default_factory=dict)
    bells: Mapping[str, int] | None = None
    workers: Sequence[Worker] = ()
    error: str = ""

    @property
    def beating(self) -> Sequence[Worker]:
        """The workers that are there now."""
        return [worker for worker in self.workers if not worker.silent]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the checks look at.

    ``wrong`` are settings that can't be used, in whose place ``settings`` has the defaults. ``defined`` are the
    handlers that a worker on this machine would have, None where they could not be loaded; ``strays`` variables that
    have no effect.
    """

    settings: Settings
    wrong: Sequence[ConfigurationError] = ()
    strays: Sequence[str] = ()
    defined: Described | None = None
    nodes: Sequence[Node] = ()
    broker: Broker | None = None
    installed: Installed | None = None

    @property
    def asked(self) -> Sequence[Node]:
        """The nodes that have answered."""
        return [node for node in self.nodes if not node.error]
