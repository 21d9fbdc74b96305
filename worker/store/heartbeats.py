"""How each worker is getting on, by its own word: written by its watchdog every two seconds, read by whoever looks.

A worker that beats and gets nothing done says so itself; one that does not beat is gone, stopped, or hangs as a whole.
It is forgotten a minute after its last beat, and at once when it ends in an orderly way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import redis

from worker.core.liveness import Condition
from worker.store import keys
from worker.store.client import unavailable_as_error
from worker.store.scripts import Scripts

LIFE_MS: Final = 60_000
SILENT_MS: Final = 10_000
"""So long after its last beat a worker counts as silent: five beats, each of which may wait a second for the server."""
MOST: Final = 1000  # workers

_encode: Final = msgspec.json.encode


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, that is one main process of Celery's. Times are server ms.

    ``id`` is of one run of it; ``name`` is Celery's, which several may share. ``received`` counts messages since the
    start, ``busy`` of ``places`` are taken. ``condition`` is its own judgement (core/liveness.py), ``unheard`` for how
    many seconds it has left messages that it has a place for, and ``waiting`` those of each of its queues, None when it
    had no reason to ask. ``handlers`` are the digests of their definitions. ``skew_ms``: its clock less the server's.
    """

    id: str
    name: str
    host: str
    pid: int
    started: int
    version: str
    celery: str
    pool: str
    places: int
    busy: int
    queues: Sequence[str]
    received: int
    received_at: int | None
    condition: Condition
    unheard: float
    waiting: dict[str, int] | None
    handlers: dict[str, str]
    skew_ms: int


_decode: Final = msgspec.json.Decoder(Beat).decode


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it is seen at ``now``, server ms; ``at`` is its last beat."""

    beat: Beat
    at: int
    now: int

    @property
    def silent(self) -> bool:
        return self.now - self.at > SILENT_MS

    @property
    def state(self) -> str:
        """Its own judgement, or ``silent``."""
        return "silent" if self.silent else self.beat.condition.value

    @property
    def healthy(self) -> bool:
        return not self.silent and not self.beat.condition.hopeless


class Heartbeats:
    """For one client. Every method may raise ``StoreUnavailable``."""

    def __init__(self, client: redis.Redis, scripts: Scripts, prefix: str) -> None:
        self._client = client
        self._scripts = scripts
        self._prefix = prefix

    def write(self, beat: Beat) -> int:
        """The server's time, ms."""
        return self._run(beat.id, _encode(beat))

    def leave(self, worker: str) -> None:
        """Forget one that has ended."""
        self._run(worker, b"")

    def read(self) -> list[Worker]:
        """Every worker of the last minute, by name and process."""
        with unavailable_as_error():
            pipe = self._client.pipeline(transaction=False)
            for command in commands(self._prefix):
                pipe.execute_command(*command)
            return understood(pipe.execute())

    def _run(self, worker: str, beat: bytes) -> int:
        of = [keys.beats(self._prefix), keys.last_beats(self._prefix)]
        now: int = self._scripts.run("beat", of, [worker, beat, LIFE_MS, MOST])
        return now


def commands(prefix: str) -> list[tuple[str, ...]]:
    """What to ask the server for, in one round trip; ``understood`` takes the answers."""
    last = ("ZRANGE", keys.last_beats(prefix), "0", "-1", "WITHSCORES")
    return [("TIME",), last, ("HGETALL", keys.beats(prefix))]


def understood(answers: Sequence[Any]) -> list[Worker]:
    (seconds, micros), last, beats = answers
    now = int(seconds) * 1000 + int(micros) // 1000
    found = []
    for worker, at in last:
        try:
            found.append(Worker(_decode(beats[worker]), int(at), now))
        except (KeyError, msgspec.DecodeError):
            continue  # it left in between, or another version of ours wrote what we can't read
    return sorted(found, key=lambda one: (one.beat.name, one.beat.pid, one.beat.started))
