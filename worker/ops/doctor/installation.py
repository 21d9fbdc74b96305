"""Reads what is kept on the state server about the installation: partitions, handlers, and who works."""

from __future__ import annotations

from typing import Any

import redis

from worker.doorbell import DELIVER_QUEUE, SEQUENCE_QUEUE
from worker.errors import StoreError
from worker.ops.doctor.facts import Installed, Worker
from worker.ops.worker_probe import judged
from worker.settings import Settings
from worker.store import keys, ledger
from worker.store.client import describe, unavailable_as_error
from worker.store.heartbeats import Heartbeats
from worker.store.installation import known_handlers
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts


def read(client: redis.Redis, settings: Settings) -> Installed:
    """Never raises for a server's fault: see ``Installed.error``."""
    try:
        return _read(client, settings)
    except (StoreError, redis.exceptions.RedisError) as error:
        return Installed(error=describe(error))


def _read(client: redis.Redis, settings: Settings) -> Installed:
    with unavailable_as_error():
        stored: Any = client.hget(keys.config(settings.prefix), "partitions")
        sweeping = bool(client.exists(keys.sweeper(settings.prefix)))
    partitions = None if stored is None else int(stored)
    announced = known_handlers(client, settings)
    books = ledger.read_ledgers(client, [PartitionKeys(settings.prefix, at) for at in range(partitions or 0)])
    names = set(announced) | ledger.handlers_in(books)
    return Installed(
        partitions=partitions,
        announced=announced,
        sweeping=sweeping,
        waiting={name: sum(ledger.waiting_jobs(counts, name) for counts in books) for name in sorted(names)},
        bells=_bells(client, settings, announced.values()) if settings.rings_on_store else None,
        workers=[
            Worker(
                name=f"{seen.beat.name} (process {seen.beat.pid})",
                handlers=seen.beat.handlers,
                queues=seen.beat.queues,
                ahead=seen.beat.skew_ms,
                trouble="" if seen.healthy else judged(seen).what,
                silent=seen.silent,
            )
            for seen in Heartbeats(client, Scripts(client), settings.prefix).read()
        ],
    )


def _bells(client: redis.Redis, settings: Settings, announced: Any) -> dict[str, int]:
    queues = dict.fromkeys([SEQUENCE_QUEUE, DELIVER_QUEUE, *(str(one["queue"]) for one in announced if "queue" in one)])
    with unavailable_as_error():
        pipe = client.pipeline(transaction=False)
        for queue in queues:
            pipe.llen(f"{settings.prefix}:broker:{queue}")
        return dict(zip(queues, pipe.execute(), strict=True))
