"""Rings for whatever is due: retries, expired leases, gaps whose wait is over, and bells that were lost.

A thread in every Celery worker's main process; one of them at a time holds a short lease and does the work, so there is
no beat process and no single point of failure. It is a thread because timers of Celery's own loop stop while the worker
reconnects to its broker, and an exception in one of them cuts the connection.

The sweep is the truth, bells are hints: with every bell lost, work still goes on at the sweeper's pace.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
import uuid
from typing import Any, Final

import structlog
from celery import bootsteps

from worker.address import Host
from worker.core.breaker import Circuit, wait_until
from worker.core.handlers import Registry
from worker.doorbell import Doorbell
from worker.errors import BrokerUnavailable, ConfigurationError, StoreError, StoreUnavailable
from worker.settings import Settings
from worker.store import keys
from worker.store.archive import Archive
from worker.store.client import connect, unavailable_as_error
from worker.store.cluster import ClusterClient, host_of
from worker.store.control import controls
from worker.store.installation import announce_handlers, fix_partitions, load_scripts
from worker.store.keys import PartitionKeys
from worker.store.lanes import due
from worker.store.scripts import Scripts

PERIOD: Final = 0.5  # seconds between sweeps when nothing is due sooner
LEAST: Final = 0.02  # seconds; two things due a millisecond apart are one sweep
LEASE_MS: Final = 2000
TRIM_EVERY: Final = 60.0  # seconds
TIMEOUT: Final = 1.0  # seconds for one command, so that a sweeper on a dead connection gives up before its lease

log = structlog.get_logger("handoff.sweeper")


class Sweeper:
    """The loop of one worker. ``sweep`` is one round of it."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._client = connect(settings, timeout=TIMEOUT)
        self._scripts = Scripts(self._client)
        self._bell = Doorbell(settings)
        self._me = uuid.uuid4().hex
        self._partitions: int | None = None
        self._stopped = threading.Event()
        self._failing = False
        self._trim_at = 0.0
        self._turn = 0
        self.steps = 0  # rounds begun and partitions looked at, whatever came of them: one that hangs makes none

    def run(self) -> None:
        """Sweep until ``stop``. What fails is tried again in the next round: nothing here is lost by waiting."""
        pause = 0.0
        while not self._stopped.wait(pause * random.uniform(0.8, 1.0)):  # noqa: S311 - spreads load, guards nothing
            pause = PERIOD
            self.steps += 1
            try:
                pause = self.sweep()
                self._failing = False
            except ConfigurationError as error:
                # Found out late, because the server could not be asked at the start.
                print(f"handoff: {error}", file=sys.stderr, flush=True)  # noqa: T201 - as any other start-up error
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except (StoreError, BrokerUnavailable) as error:
                if not self._failing:
                    log.warning("sweep_failed", error=str(error))
                self._failing = True
            except Exception:
                log.exception("sweep_failed")
        self._resign()

    def stop(self) -> None:
        """Make room for another worker's sweeper: it need not wait for the end of the lease."""
        self._stopped.set()

    def sweep(self) -> float:
        """One round, if the lease can be had; seconds until the next should begin."""
        began = time.monotonic()
        if self._partitions is None:
            partitions = fix_partitions(self._client, self._settings)
            # Once more, for the server may have been away at the start: nobody counts the lanes of an unknown handler.
            announce_handlers(self._client, self._settings, [spec.describe() for spec in self._registry.values()])
            self._partitions = partitions
        if not self._lead():
            return PERIOD
        names, probing, soonest = self._admitted()
        gone: dict[Host | None, StoreUnavailable] = {}
        self._turn += 1
        for place in range(self._partitions):
            self.steps += 1  # thousands of partitions take longer than the watchdog has patience
            partition = (place + self._turn) % self._partitions  # or one partition's lanes would be all the probes
            keys_of = PartitionKeys(self._settings.prefix, partition)
            host = host_of(self._client, keys_of.state)
            if host in gone:
                continue
            try:
                found = due(self._scripts, keys_of, names)
            except StoreUnavailable as error:
                if host is None:
                    raise
                gone[host] = error  # the others go on: it is asked once in a round
                continue
            if found.sequencer:
                self._bell.ring_sequencer(partition)
            for name in found.handlers:
                self._bell.ring_runner(name, self._registry[name].queue, partition)
            if not probing.isdisjoint(found.handlers):
                names = [name for name in names if name not in probing or name not in found.handlers]
            if found.in_ms is not None:
                soonest = min(soonest, found.in_ms / 1000)
        for failed in gone.values():
            raise failed
        self._trim()
        # With thousands of partitions a round takes long itself; half of the time is enough to spend on them.
        return max(LEAST, soonest, time.monotonic() - began)

    def _trim(self) -> None:
        """Let old records go out of the archives of partitions where nothing happens; and all, once it is off. Beside
        that, a server that was started again gets the ingress's script back."""
        if time.monotonic() < self._trim_at:
            return
        self._trim_at = time.monotonic() + TRIM_EVERY
        load_scripts(self._client, self._settings)
        with unavailable_as_error():
            seconds: Any = self._client.time()
        for partition in range(self._partitions or 0):
            self.steps += 1
            keys_of = PartitionKeys(self._settings.prefix, partition)
            Archive(self._client, self._scripts, keys_of, self._settings).trim(seconds[0] * 1000)

    def _admitted(self) -> tuple[list[str], set[str], float]:
        """The handlers of which calls may begin, those among them that may have one probe, and the seconds until there
        are more."""
        names: list[str] = []
        probing: set[str] = set()
        soonest = PERIOD
        for name, control in controls(self._client, self._settings.prefix, self._registry).items():
            circuit = control.circuit if self._registry[name].breaker is not None else Circuit()
            wait = (wait_until(circuit) - control.now) / 1000
            if control.paused is not None:
                continue
            if circuit.opened and wait > 0:
                soonest = min(soonest, wait)
                continue
            names.append(name)
            if circuit.opened:
                probing.add(name)
        return names, probing, soonest

    def _resign(self) -> None:
        with contextlib.suppress(StoreError):
            self._has_lease(1)

    def _lead(self) -> bool:
        """Whether it is for us to sweep. Where nobody can say, because that node of a cluster is away, it is for all: a
        bell that is out is not rung again."""
        try:
            return self._has_lease()
        except StoreUnavailable:
            if not isinstance(self._client, ClusterClient):
                raise
            return True

    def _has_lease(self, lease_ms: int = LEASE_MS) -> bool:
        return bool(self._scripts.run("lead", [keys.sweeper(self._settings.prefix)], [self._me, lease_ms]))


class SweeperStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the sweeper once the pool has forked, in the worker's main process, and stops it with the worker."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._sweeper: Sweeper | None = None
        self._thread: threading.Thread | None = None

    @property
    def steps(self) -> int | None:
        """How far it has come; None if its thread has ended. A worker without one looks well, until nobody else
        sweeps."""
        if self._sweeper is None or self._thread is None or not self._thread.is_alive():
            return None
        return self._sweeper.steps

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        from worker.runtime import process

        found = process.current()
        self._sweeper = Sweeper(found.settings, found.registry)
        self._thread = threading.Thread(target=self._sweeper.run, daemon=True, name="handoff-sweeper")
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        if self._sweeper is not None:
            self._sweeper.stop()
