"""Runs the application in this one process, from a free port to a clean end.

The end, on SIGTERM:

    stopping ──▶ /readyz says 503, answers close their connections: HANDOFF_DRAIN, for a proxy to notice
    ──▶ nothing is accepted any more, what was is read ──▶ idle connections are closed, requests under way answered
    ──▶ what they submitted is stored, the last bells are rung

Accepting ends before connections are closed, or one that was accepted a moment ago would be closed before it was read.
All after the first is done within ``GRACE`` seconds, and a second or two for the bells. SIGINT, or a second signal,
leaves the first out.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from contextlib import suppress
from typing import Final

import structlog

from ingress.answers import Answer, refusal
from ingress.app import App
from ingress.connections import Connections, allowed
from ingress.intake import Intake
from ingress.listening import listen
from ingress.metrics import Metrics
from ingress.monitor import Monitor
from ingress.receive import Receiver
from ingress.ringer import Ringer
from worker.doorbell import carried
from worker.errors import ConfigurationError
from worker.settings import Settings

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
    connections = Connections(allowed(), int(settings.max_body), too_large(settings), metrics)
    connections.application = App(Receiver(settings, intake, monitor, metrics), monitor, metrics, connections)
    await monitor.look()  # a wrong setting stops the start here; a server that is away does not
    if monitor.wrong_settings.done():
        raise monitor.wrong_settings.result()

    ringer.start()
    _settle_memory()
    connections.accept_from(listener.socket)
    watching = loop.create_task(monitor.run())
    guarding = loop.create_task(connections.run())
    stopped = loop.create_task(stop.wait())
    log.info("listening", address=listener.address, ready=monitor.trouble is None)
    await asyncio.wait({watching, guarding, stopped}, return_when=asyncio.FIRST_COMPLETED)

    log.info("stopping")
    connections.stopping = True
    if stop.is_set():
        await _hurried(hurry, settings.drain)
        connections.stop_accepting()
        await asyncio.sleep(0.0 if hurry.is_set() else READ)
    connections.stop_accepting()
    listener.close()
    connections.close_idle()
    if not await connections.ended(GRACE):
        log.info("senders_left_behind")  # those that never finished their request
        connections.cut()
    guarding.cancel()
    await intake.drain()
    await asyncio.to_thread(ringer.stop, LAST_BELLS)
    await intake.close()
    if monitor.wrong_settings.done():
        raise monitor.wrong_settings.result()
    for task in (watching, guarding):
        if task.done() and not task.cancelled():
            task.result()
            raise RuntimeError("one of the ingress's own tasks ended by itself")


def too_large(settings: Settings) -> Answer:
    """What a body over the limit is answered."""
    return refusal(413, "body_too_large", f"A body may have {int(settings.max_body)} bytes.")


async def _hurried(hurry: asyncio.Event, seconds: float) -> None:
    """Until a proxy has noticed that we are not ready; shorter if somebody is in a hurry."""
    with suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), seconds)


def _settle_memory() -> None:
    """What is there at the start stays: the collector need not look at it again. A request leaves no cycles behind, so
    it need not look often either."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
