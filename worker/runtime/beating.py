"""Makes a worker's heartbeats of what its watchdog sees, and writes them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import socket
import time
import uuid
from typing import Any, Final

import celery
import msgspec

from worker.core.handlers import HandlerSpec, Registry
from worker.core.liveness import Condition, Look
from worker.errors import StoreError
from worker.runtime.progress import PROGRESS
from worker.settings import Settings
from worker.store.client import connect
from worker.store.heartbeats import Beat, Heartbeats
from worker.store.scripts import Scripts

TIMEOUT: Final = 1.0  # seconds for the server: a beat that is late is as good as none


def digest(spec: HandlerSpec) -> str:
    """The same for the same definition, in every process and on every machine."""
    described = msgspec.json.encode(spec.describe(), order="sorted")
    return hashlib.sha256(described).hexdigest()[:12]


class Beating:
    """For one thread. ``worker`` is Celery's ``WorkController``."""

    def __init__(self, worker: Any, settings: Settings, registry: Registry) -> None:
        self._worker = worker
        client = connect(settings, timeout=TIMEOUT)
        self._store = Heartbeats(client, Scripts(client), settings.prefix)
        self._handlers = {name: digest(spec) for name, spec in registry.items()}
        self._id = uuid.uuid4().hex
        self._pool = type(worker.pool).__module__.rpartition(".")[2]
        self._started: int | None = None
        self._skew = 0  # ms

    def beat(self, look: Look, condition: Condition, unheard: float) -> None:
        """Raises ``StoreUnavailable``."""
        before = time.time() * 1000
        at = round(before) - self._skew  # the server's time, as nearly as we know it
        received_at = None
        if PROGRESS.received_at:
            received_at = at - round((time.monotonic() - PROGRESS.received_at) * 1000)
        now = self._store.write(
            Beat(
                id=self._id,
                name=str(self._worker.hostname),
                host=socket.gethostname(),
                pid=os.getpid(),
                started=self._started or at,
                version=importlib.metadata.version("handoff"),
                celery=celery.__version__,
                pool=self._pool,
                places=look.places,
                busy=look.busy,
                queues=sorted(look.received),
                received=PROGRESS.received.total(),
                received_at=received_at,
                condition=condition,
                unheard=round(unheard, 1),
                waiting=None if look.waiting is None else dict(look.waiting),
                handlers=self._handlers,
                skew_ms=self._skew,
            )
        )
        # Half way between question and answer, as NTP takes it: what the way took is not taken for a wrong clock.
        self._skew = round((before + time.time() * 1000) / 2) - now
        self._started = self._started or now

    def leave(self) -> None:
        """Say that this worker has ended. If that can't be said, its beats run out."""
        try:
            self._store.leave(self._id)
        except StoreError:
            return
