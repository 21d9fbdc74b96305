"""What is fixed when Handoff first meets a server: how many partitions there are.

A team's partition is ``crc32(team) mod P``: were P to change, a team's events would be in two places and out of order.
So P is written once, with HSETNX, and a process that is told another number refuses to start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import redis

from worker.doorbell import carried
from worker.errors import ConfigurationError
from worker.settings import DEFAULT_PARTITIONS, Settings
from worker.store import keys
from worker.store.client import unavailable_as_error
from worker.store.scripts import Scripts


def fix_partitions(client: redis.Redis, settings: Settings) -> int:
    """The number of partitions of this installation; the first caller ever decides it.

    Raises ``ConfigurationError`` when ``HANDOFF_PARTITIONS`` says another number than the server does, and
    ``StoreUnavailable`` when the server can't be asked.
    """
    partitions = stored_partitions(client, settings)
    if partitions is None:
        with unavailable_as_error():
            client.hsetnx(keys.config(settings.prefix), "partitions", settings.partitions or DEFAULT_PARTITIONS)
        partitions = stored_partitions(client, settings) or 0
    return partitions


def stored_partitions(client: redis.Redis, settings: Settings) -> int | None:
    """The number of partitions if it has been decided, else None. Writes nothing: to look must not be to decide.

    Raises as ``fix_partitions`` does.
    """
    with unavailable_as_error():
        stored: Any = client.hget(keys.config(settings.prefix), "partitions")
    if stored is None:
        return None
    partitions, wanted = int(stored), settings.partitions
    if wanted is not None and wanted != partitions:
        raise ConfigurationError(
            "HANDOFF_PARTITIONS",
            f"is {wanted}, but this installation has {partitions} partitions and teams can't move between them",
            f"set it to {partitions} or leave it out, or use another HANDOFF_PREFIX",
        )
    return partitions


def announce_handlers(client: redis.Redis, settings: Settings, handlers: Iterable[Mapping[str, Any]]) -> None:
    """Tell the command line which handlers there are, and how they are set. Raises ``StoreUnavailable``."""
    words = [word for one in handlers for word in (str(one["name"]), msgspec.json.encode(one))]
    if words:
        Scripts(client).run("announce", [keys.handlers(settings.prefix)], words)


def load_scripts(client: redis.Redis, settings: Settings) -> None:
    """Have the server know the script that the ingress rings with, where the broker is that server. One that was
    started again has forgotten it. Raises ``StoreUnavailable``."""
    if carried(settings) is not None:
        Scripts(client).load()


def known_handlers(client: redis.Redis, settings: Settings) -> dict[str, dict[str, Any]]:
    """Every handler that a worker has announced, by name. Raises ``StoreUnavailable``."""
    with unavailable_as_error():
        stored: Any = client.hgetall(keys.handlers(settings.prefix))
    return {name.decode(): msgspec.json.decode(text) for name, text in stored.items()}
