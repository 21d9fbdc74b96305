"""Events as an ingress stores them: one every tenth of a second, each until the server has it, and bells for them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Final

import redis

from worker.doorbell import BELL_LIFE_MS, Doorbell
from worker.errors import BrokerUnavailable
from worker.settings import Settings
from worker.store.client import connect
from worker.store.keys import PartitionKeys, partition_of

EVERY: Final = 0.1  # seconds
TEAMS: Final = 6


@dataclass
class Feeder:
    """``stored`` is when each event was, by ``time.monotonic``: none that is in it may be lost."""

    settings: Settings
    stored: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._feed, daemon=True, name="feeder")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def slow(self, seconds: float) -> str:
        """One event whose call takes so long; its team."""
        team = f"slow{len(self.stored)}"
        with connect(self.settings, timeout=1.0) as client:
            self._store(client, team, 1, {"seconds": seconds})
        return team

    def _feed(self) -> None:
        bell = Doorbell(self.settings)
        number = 0
        with connect(self.settings, timeout=1.0) as client:
            while not self._stop.wait(EVERY):
                team, seq = f"team{number % TEAMS}", number // TEAMS + 1
                try:
                    partition = self._store(client, team, seq, {})
                    # As the ingress: a bell that is out already is not rung again.
                    if client.set(PartitionKeys(self.settings.prefix, partition).bell, 1, nx=True, px=BELL_LIFE_MS):
                        bell.ring_sequencer(partition)
                except (redis.exceptions.RedisError, OSError):
                    continue  # the same event again: stored or not, its id is the same
                except BrokerUnavailable:
                    pass
                number += 1

    def _store(self, client: redis.Redis, team: str, seq: int, data: dict[str, float]) -> int:
        event = {"id": f"{team}-{seq}", "seq": seq, "type": "thread.typing", "teamId": team, "data": data}
        partition = partition_of(team, self.settings.partitions or 0)
        client.xadd(PartitionKeys(self.settings.prefix, partition).inbox, {"b": json.dumps(event)})
        self.stored.setdefault(event["id"], time.monotonic())  # type: ignore[arg-type]
        return partition
