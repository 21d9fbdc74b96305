"""What one worker process needs, made at its first task and again after a fork.

Sockets, threads and event loops do not survive a fork. ``worker_process_init`` does not fire in every pool, so nothing
is made at import or at the worker's start: whoever needs it asks here, and gets what belongs to the present process id.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import redis
import structlog

from worker.core.handlers import HandlerSpec, Registry
from worker.doorbell import Carried, Doorbell, carried, runner_bell, sequencer_bell
from worker.errors import BrokerUnavailable
from worker.messages import Bell
from worker.runtime.calls import ActiveLane
from worker.runtime.gate import Gate
from worker.runtime.keeper import Keeper
from worker.runtime.lingering import Lingering
from worker.runtime.registry import load_handlers
from worker.runtime.shutdown import Shutdown
from worker.runtime.side_runs import SideRuns
from worker.settings import Settings, load_settings
from worker.store.client import connect
from worker.store.control import ControlStore
from worker.store.scripts import Scripts

log = structlog.get_logger("handoff.worker")


class Ringing(Protocol):
    """What a process rings with: ``Bells``, or what stands for them in tests. ``carried``: see there."""

    carried: Carried | None

    def sequencer(self, partition: int, *, delay: float = 0.0) -> None: ...

    def runner(self, handler: str, queue: str, partition: int, *, delay: float = 0.0) -> None: ...

    def runners(self, handlers: Iterable[HandlerSpec], partition: int) -> None: ...


@dataclass(slots=True)
class Bells:
    """Rings from any thread of the process, and never raises: a bell that is lost is rung again by the sweeper.

    ``carried`` are those that need not be rung: None where the broker is another server than the state's.
    """

    settings: Settings
    carried: Carried | None = None
    _local: threading.local = field(default_factory=threading.local)
    _until: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.carried = carried(self.settings)

    def sequencer(self, partition: int, *, delay: float = 0.0) -> None:
        if self._worth("", partition, delay):
            self._ring([sequencer_bell(partition, delay)])

    def runner(self, handler: str, queue: str, partition: int, *, delay: float = 0.0) -> None:
        if self._worth(handler, partition, delay):
            self._ring([runner_bell(handler, queue, partition, delay)])

    def runners(self, handlers: Iterable[HandlerSpec], partition: int) -> None:
        """All of them at once."""
        bells = [runner_bell(spec.name, spec.queue, partition) for spec in handlers]
        if bells:
            self._ring(bells)

    def _worth(self, handler: str, partition: int, delay: float) -> bool:
        """A delayed bell is not worth ringing while an earlier one of the same kind has yet to sound."""
        if delay <= 0:
            return True
        now = time.monotonic()
        if now < self._until.get((handler, partition), 0.0) <= now + delay:
            return False
        self._until[handler, partition] = now + delay
        return True

    def _ring(self, bells: Sequence[Bell]) -> None:
        bell: Doorbell | None = getattr(self._local, "bell", None)
        if bell is None:
            bell = self._local.bell = Doorbell(self.settings)
        try:
            bell.ring(bells)
        except BrokerUnavailable as error:
            log.warning("bell_lost", error=str(error))


@dataclass(slots=True)
class Process:
    """The resources of one process. ``claim_sizes``: how many jobs of each handler were worth claiming lately.
    ``gates``: what it knows of each handler's circuit and pausing. ``hung``: the lanes of each handler whose calls were
    given up, for they can't be ended."""

    settings: Settings
    registry: Registry
    client: redis.Redis
    scripts: Scripts
    bells: Ringing
    keeper: Keeper
    claim_sizes: dict[str, int] = field(default_factory=dict)
    partitions: int = 0  # once somebody has asked the server, who alone knows
    lingering: Lingering = field(default_factory=Lingering)
    side_runs: SideRuns = field(default_factory=SideRuns)
    shutdown: Shutdown = field(default_factory=Shutdown)
    hung: dict[str, list[ActiveLane]] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)

    def gate(self, spec: HandlerSpec) -> Gate:
        found = self.gates.get(spec.name)
        if found is None:
            store = ControlStore(self.client, self.scripts, self.settings.prefix, spec.name)
            found = self.gates.setdefault(spec.name, Gate(store, spec.name, spec.breaker, attempts=spec.attempts))
        return found

    def hanging(self, handler: str | None = None) -> int:
        """How many calls, of one handler or of all, were given up and have not ended."""
        for name, lanes in list(self.hung.items()):
            self.hung[name] = [lane for lane in lanes if not lane.finished]
        return sum(len(lanes) for name, lanes in self.hung.items() if handler in (None, name))


LONGEST_CALL: Final = 3600.0  # seconds; no time limit is longer

_lock = threading.Lock()
_current: tuple[int, Process] | None = None


def current() -> Process:
    """This process's resources. Raises ``ConfigurationError`` if a setting can't be used."""
    global _current  # noqa: PLW0603 - one per process is the point
    known = _current
    if known is not None and known[0] == os.getpid():
        return known[1]
    with _lock:
        if _current is None or _current[0] != os.getpid():
            settings = load_settings()
            client = connect(settings)
            # Batches make many small objects that die young; looking through all others for each few hundred of them
            # takes a tenth of the time. What is loaded by now stays, so it need not be looked at again.
            gc.freeze()
            gc.set_threshold(20_000, 20, 50)
            made = Process(
                settings=settings,
                registry=load_handlers(settings),
                client=client,
                scripts=Scripts(client),
                bells=Bells(settings),
                keeper=Keeper(),
                shutdown=Shutdown(settings.grace),
            )
            made.shutdown.watch(made.keeper)
            _current = (os.getpid(), made)
        return _current[1]


def let_linger() -> None:
    """Wait for the calls that go on without a task, at the end of a process that has any.

    Time limits bound it; in a worker that ends, so does ``HANDOFF_GRACE`` (runtime/shutdown.py).
    """
    if _current is not None and _current[0] == os.getpid():
        _current[1].shutdown.ask()
        _current[1].side_runs.wait(LONGEST_CALL)
        _current[1].lingering.wait(LONGEST_CALL)
