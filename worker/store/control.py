"""What is said of a handler as a whole: its circuit (core/breaker.py) and whether a person paused it.

Both are decided in Python from what ``read`` gives, with the server's time. A circuit is written only if it is still
the one that was read (a version, compared in control.lua): of two processes that decide at once, one has to look again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import redis

from worker.core.breaker import Circuit
from worker.store import keys
from worker.store.client import unavailable_as_error
from worker.store.cluster import AWAY
from worker.store.scripts import Scripts

_encode: Final = msgspec.json.encode
_decode_circuit: Final = msgspec.json.Decoder(Circuit).decode


class Paused(msgspec.Struct, frozen=True):
    """Since when (server ms), and by whom."""

    at: int
    by: str


_decode_paused: Final = msgspec.json.Decoder(Paused).decode


@dataclass(frozen=True, slots=True)
class Control:
    """One handler's. ``now`` is the server's time at the reading, ms."""

    now: int
    version: int = 0
    circuit: Circuit = Circuit()  # noqa: RUF009 - it is frozen
    paused: Paused | None = None


class ControlStore:
    """The control of one handler. Every method may raise ``StoreUnavailable``."""

    def __init__(self, client: redis.Redis, scripts: Scripts, prefix: str, handler: str) -> None:
        self._client = client
        self._scripts = scripts
        self._prefix = prefix
        self._handler = handler
        self._key = keys.control(prefix, handler)

    def read(self) -> Control:
        return controls(self._client, self._prefix, [self._handler])[self._handler]

    def swap(self, read: Control, circuit: Circuit) -> bool:
        """Write ``circuit`` in the place of the one that was ``read``; False if that one is not there any more."""
        return bool(self._scripts.run("control", [self._key], [read.version, _encode(circuit)]))

    def pause(self, by: str) -> bool:
        """Let no call begin until ``resume``; False if it is paused already, which then stays as it was."""
        with unavailable_as_error():
            seconds, micros = self._time()
            paused = _encode(Paused(seconds * 1000 + micros // 1000, by))
            return bool(self._client.hsetnx(self._key, "paused", paused))

    def resume(self) -> bool:
        """Whether it was paused."""
        with unavailable_as_error():
            return bool(self._client.hdel(self._key, "paused"))

    def _time(self) -> tuple[int, int]:
        answer: tuple[int, int] = self._client.time()
        return answer


def controls(client: redis.Redis, prefix: str, handlers: Iterable[str]) -> Mapping[str, Control]:
    """Several handlers' controls in one round trip. A handler is missing if only its node of a cluster is away: none of
    its calls may begin meanwhile. Raises ``StoreUnavailable``."""
    names = list(handlers)
    with unavailable_as_error():
        pipe = client.pipeline(transaction=False)
        pipe.time()
        for name in names:
            pipe.hmget(keys.control(prefix, name), "version", "circuit", "paused")
        answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not (isinstance(answer, AWAY) and len(names) > 1):
                raise answer
    (seconds, micros), *found = answers
    now = seconds * 1000 + micros // 1000
    return {
        name: _control(now, fields)
        for name, fields in zip(names, found, strict=True)
        if not isinstance(fields, Exception)
    }


def _control(now: int, fields: Any) -> Control:
    version, circuit, paused = fields
    return Control(
        now=now,
        version=int(version or 0),
        circuit=_circuit(circuit) if circuit else Circuit(),
        paused=_decode_paused(paused) if paused else None,
    )


def _circuit(text: bytes) -> Circuit:
    """One that a newer or older version of ours wrote, and that can't be understood, begins afresh."""
    try:
        return _decode_circuit(text)
    except msgspec.DecodeError:
        return Circuit()
