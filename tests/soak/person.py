"""Does what people have to do, every few seconds: reads the quarantine and drops the dead letters, as commands do.

Without it dead letters would grow for ever, which is their right: they are kept until a person acts. What it has seen
is kept, for both are part of what became of the events.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from contextlib import suppress
from typing import Any

import redis

from tests.chaos.cluster import Cluster
from worker.errors import StoreError
from worker.ops import dead_actions
from worker.ops.acting import Asked, carry_out
from worker.ops.installed import Installed
from worker.store.client import connect
from worker.store.dead import DeadFilter, letters_at, list_dead
from worker.store.keys import PartitionKeys
from worker.store.pages import ALL, Window, as_mapping
from worker.store.scripts import Scripts


class Person:
    """By partition: ``dead`` are (handler, event id), ``bodies`` what could not be read, ``too_old`` event ids."""

    def __init__(self, cluster: Cluster, period: float) -> None:
        self.dead: dict[int, set[tuple[str, str]]] = defaultdict(set)
        self.bodies: dict[int, list[bytes]] = defaultdict(list)
        self.too_old: dict[int, set[str]] = defaultdict(set)
        self._cluster = cluster
        self._period = period
        self._read: dict[int, str] = {}  # partition -> the last entry of its quarantine that was seen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="person")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Do it a last time, and stop. Raises ``StoreUnavailable``."""
        self._over.set()
        self._thread.join()
        self.act()

    def act(self) -> None:
        settings = self._cluster.settings
        with connect(settings) as client:
            keys = tuple(PartitionKeys(settings.prefix, number) for number in range(settings.partitions or 0))
            for each in keys:
                self._read_quarantine(client, each)
            self._drop_dead(Installed(settings, client, Scripts(client), keys))

    def _run(self) -> None:
        while not self._over.wait(self._period):
            with suppress(StoreError, redis.exceptions.RedisError):
                self.act()

    def _read_quarantine(self, client: redis.Redis, keys: PartitionKeys) -> None:
        entries: Any = client.xrange(keys.quarantine, min=f"({self._read.get(keys.partition, '0-0')}")
        for entry, words in entries:
            fields = as_mapping(words)
            self._read[keys.partition] = entry.decode()
            if fields[b"reason"] == b"too_old":
                self.too_old[keys.partition].add(json.loads(fields[b"b"])["id"])
            else:
                self.bodies[keys.partition].append(fields[b"b"])

    def _drop_dead(self, found: Installed) -> None:
        page = list_dead(found.client, found.partitions, DeadFilter(), Window(), ALL)
        for letter in page.records:  # kept before they are dropped: what was dropped is nowhere else
            self.dead[letter.partition].add((letter.handler, letter.event_id or ""))
        places = [(letter.partition, letter.entry) for letter in page.records]
        letters = letters_at(found.client, found.partitions, places)
        asked = Asked(yes=True, dry_run=False, as_json=True, named=True)
        carry_out(found, asked, dead_actions.forget(found, letters, 0, {"all": True}))
