"""Tries the broker: a real connection, made as whoever rings makes it, for a bounded time."""

from __future__ import annotations

import threading
from typing import Final
from urllib.parse import unquote, urlsplit

from worker.doorbell import connect, connection_to
from worker.ops.doctor.asking import address_of
from worker.ops.doctor.facts import Broker
from worker.settings import Settings
from worker.store.client import describe

PATIENCE: Final = 10.0  # seconds; whatever time-outs a transport has itself, it may have none for a name's lookup


def try_broker(settings: Settings) -> Broker:
    """Connects and lets go again. Never raises."""
    url = settings.broker.split(";")[0]
    said = [f"has not answered within {PATIENCE:.0f} s"]

    def attempt() -> None:
        said[:] = [_error(settings)]

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return Broker(address_of(url), said[0])


def _error(settings: Settings) -> str:
    connection = connection_to(settings)
    try:
        connect(connection)
        connection.default_channel  # noqa: B018 - the Redis transport asks the server when it makes one
    except Exception as error:  # noqa: BLE001 - every broker's library has its own errors
        return _without_secrets(f"{type(error).__name__}: {describe(error)}", settings.broker)
    finally:
        connection.release()
    return ""


def _without_secrets(text: str, urls: str) -> str:
    for url in urls.split(";"):
        secret = urlsplit(url).password
        for form in (url, secret, unquote(secret or "")):
            text = text.replace(form, "***") if form else text
    return text
