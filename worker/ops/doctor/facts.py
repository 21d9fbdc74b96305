"""What the checks are made of: plain values, gathered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.settings import Settings


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

    @property
    def kind(self) -> str:
        return "Valkey" if "valkey_version" in self.info else "Redis"

    @property
    def version(self) -> tuple[int, ...]:
        """Major and minor, and so on; () where it is not known."""
        text = str(self.info.get("valkey_version") or self.info.get("redis_version") or "")
        return tuple(int(part) for part in text.split(".") if part.isdigit())


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the checks look at."""

    settings: Settings
    nodes: Sequence[Node] = ()

    @property
    def asked(self) -> Sequence[Node]:
        """The nodes that have answered."""
        return [node for node in self.nodes if not node.error]
