"""Runs the application under granian, in this one process, from a free port to a clean end.

granian's embedded server is used rather than its supervisor with a worker process: the same throughput, two thirds of
the memory, one process to signal, and no worker left behind by a supervisor that was killed.

The end, on SIGTERM:

    stopping ──▶ /readyz says 503, answers close their connections: HANDOFF_DRAIN, for a proxy to notice
    ──▶ nothing is accepted any more, what was is read ──▶ idle connections are closed, requests under way answered
    ──▶ what they submitted is stored, the last bells are rung

All after the first is done within ``GRACE`` seconds, and a second or two for the bells. SIGINT, or a second signal,
leaves the first out.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import Any, Final

import structlog
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from ingress.app import App
from ingress.connections import Connections, allowed
from ingress.intake import Intake
from ingress.listening import BACKLOG, Listener, listen
from ingress.metrics import Metrics
from ingress.monitor import Monitor
from ingress.receive import Receiver
from ingress.ringer import Ringer
from worker.doorbell import carried
from worker.errors import ConfigurationError
from worker.settings import Settings

HEAD: Final = 16 * 1024  # bytes that a request's head may have; anybody may send one, so thousands must find room
IDLE: Final = 75_000  # milliseconds for a request's head to arrive; more than the 60 s that load balancers keep theirs
READ: Final = 0.2  # seconds for the requests of connections that were accepted last
GRACE: Final = 5.0  # seconds for the requests under way
LAST_BELLS: Final = 1.0  # seconds

log = structlog.get_logger(__name__)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``ConfigurationError``, later too, if the server becomes another one."""
    if not settings.secrets and not settings.secrets_by_team:
        raise ConfigurationError(
            "HANDOFF_WEBHOOK_SECRET", "is not set", "copy the webhook's signing secret from Inbox's settings"
        )
    listener = listen(settings)
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def end(number: int) -> None:
        if stop.is_set() or number == signal.SIGINT:
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)

    metrics = Metrics()
    ringer = Ringer(settings, metrics)
    intake = Intake(
        settings.address, metrics, ringer.ring, flush=settings.durability == "fsync", carried=carried(settings)
    )
    monitor = Monitor(settings, intake)
    connections = Connections(allowed(), metrics)
    app = App(settings, Receiver(settings, intake, monitor, metrics), monitor, metrics, connections)
    await monitor.look()  # a wrong setting stops the start here; a server that is away does not
    if monitor.wrong_settings.done():
        raise monitor.wrong_settings.result()

    ringer.start()
    settle_memory()
    server = http_server(app, listener, connections.most)
    serving = loop.create_task(server.serve())
    watching = loop.create_task(monitor.run())
    guarding = loop.create_task(connections.run(listener.port))
    stopped = loop.create_task(stop.wait())
    log.info("listening", address=listener.address, ready=monitor.trouble is None)
    await asyncio.wait({serving, watching, stopped}, return_when=asyncio.FIRST_COMPLETED)

    log.info("stopping")
    app.stopping = True
    if stop.is_set():
        await _drain(settings.drain, hurry, serving)
        listener.stop_accepting()
        await asyncio.wait({serving}, timeout=0.0 if hurry.is_set() else READ)
    server.stop()  # type: ignore[no-untyped-call]
    done, _ = await asyncio.wait({serving}, timeout=GRACE)
    guarding.cancel()
    await intake.drain()
    await asyncio.to_thread(ringer.stop, LAST_BELLS)
    await intake.close()
    if not done:
        # Senders that never finished their request are left; granian's farewell to them comes after the loop's end.
        log.info("senders_left_behind")
        loop.set_exception_handler(lambda _loop, _context: None)
    if monitor.wrong_settings.done():
        raise monitor.wrong_settings.result()
    if not stop.is_set():
        for task in (serving, watching):
            if task.done():
                task.result()
        raise RuntimeError("the HTTP server ended by itself")


async def _drain(seconds: float, hurry: asyncio.Event, serving: asyncio.Task[None]) -> None:
    """Until a proxy has noticed that we are not ready; shorter if somebody is in a hurry."""
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({hurried, serving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()


def settle_memory() -> None:
    """What is there at the start stays: the collector need not look at it again. A request leaves no cycles behind, so
    it need not look often either."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


class _Server(Server):
    """granian's, on a socket of ours."""

    def __init__(self, listener: Listener, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        words = [self._listener.descriptor, False]
        if sys.platform == "linux" or sys.platform.startswith("freebsd"):
            words.append(BACKLOG)
        self._ssp = None
        self._shd: Any = SocketHolder(*words)


def http_server(app: Any, listener: Listener, connections: int) -> Server:
    """granian on ``listener``, for an RSGI application and at most so many connections."""
    return _Server(
        listener,
        app,
        listener.host,
        listener.port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=IDLE, max_buffer_size=HEAD),
        websockets=False,
        backlog=BACKLOG,
        backpressure=connections,
        log_enabled=False,
    )
