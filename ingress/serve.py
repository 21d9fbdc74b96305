"""Runs the application under granian, in this one process, from a free port to a clean end.

granian's embedded server is used rather than its supervisor with a worker process: the same throughput, two thirds of
the memory, one process to signal, and no worker left behind by a supervisor that was killed.

The end, on SIGTERM or SIGINT: no new connections, idle ones closed, requests under way answered, what they
submitted stored, the last bells rung; all within ``GRACE`` seconds, and a second or two for the bells.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from typing import Final

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from ingress.app import App
from ingress.connections import Connections, allowed
from ingress.intake import Intake
from ingress.metrics import Metrics
from ingress.monitor import Monitor
from ingress.receive import Receiver
from ingress.ringer import Ringer
from worker.errors import ConfigurationError
from worker.settings import Settings

BACKLOG: Final = 2048  # connections that the kernel holds until they are accepted
HEAD: Final = 16 * 1024  # bytes that a request's head may have; anybody may send one, so thousands must find room
IDLE: Final = 75_000  # milliseconds for a request's head to arrive; more than the 60 s that load balancers keep theirs
GRACE: Final = 5.0  # seconds for the requests under way
LAST_BELLS: Final = 1.0  # seconds

log = structlog.get_logger(__name__)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``ConfigurationError``, later too, if the server becomes another one."""
    if not settings.secrets and not settings.secrets_by_team:
        raise ConfigurationError(
            "HANDOFF_WEBHOOK_SECRET", "is not set", "copy the webhook's signing secret from Inbox's settings"
        )
    host, port = free_address(settings)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    metrics = Metrics()
    ringer = Ringer(settings, metrics)
    intake = Intake(settings.address, metrics, ringer.ring, flush=settings.durability == "fsync")
    monitor = Monitor(settings, intake)
    connections = Connections(allowed(), metrics)
    app = App(settings, Receiver(settings, intake, monitor, metrics), monitor, metrics, connections)
    await monitor.look()  # a wrong setting stops the start here; a server that is away does not
    if monitor.wrong_settings.done():
        raise monitor.wrong_settings.result()

    ringer.start()
    server = _server(app, host, port, connections.most)
    serving = loop.create_task(server.serve())
    watching = loop.create_task(monitor.run())
    guarding = loop.create_task(connections.run(port))
    stopped = loop.create_task(stop.wait())
    log.info("listening", address=_address(host, port), ready=monitor.trouble is None)
    await asyncio.wait({serving, watching, stopped}, return_when=asyncio.FIRST_COMPLETED)

    log.info("stopping")
    app.stopping = True
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


def free_address(settings: Settings) -> tuple[str, int]:
    """``HANDOFF_BIND`` as an IP address and port that can be listened on; port 0 becomes a free one.

    Raises ``ConfigurationError``. granian shares its port with whoever else shares it (SO_REUSEPORT), so a second
    ingress, started by mistake, would silently take half of the first one's requests. Hence this look beforehand.
    """
    host, port = settings.host_and_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigurationError("HANDOFF_BIND", f"{host} is no known host", "127.0.0.1:8000 for instance") from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            problem = _BIND_PROBLEMS.get(error.errno or 0, error.strerror or "can't be listened on")
            raise ConfigurationError("HANDOFF_BIND", f"{settings.bind} {problem}", "choose another") from None
        ip, free_port = probe.getsockname()[:2]
        return str(ip), int(free_port)


_BIND_PROBLEMS: Final = {
    errno.EADDRINUSE: "is in use by another process",
    errno.EADDRNOTAVAIL: "is no address of this machine",
    errno.EACCES: "may only be listened on by the administrator",
}


def _server(app: App, host: str, port: int, connections: int) -> Server:
    return Server(
        app,
        host,
        port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=IDLE, max_buffer_size=HEAD),
        websockets=False,
        backlog=BACKLOG,
        backpressure=connections,
        log_enabled=False,
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
