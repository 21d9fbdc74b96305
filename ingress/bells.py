"""What the ingress sends along with deliveries so that somebody comes for them.

Where the broker is the server that has the inboxes, a script rings in the same write (lua/ring.lua), unless a bell of
the partition is out. The ingress may load no script: a worker does, at its start and every minute. Until one has, and
where the broker is another server, the bell is only marked as out, and the ringer's thread sends it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import hiredis
import redis.exceptions

from ingress.sparing import SparingLog
from worker.doorbell import BELL_LIFE_MS, Carried, sequencer_bell
from worker.store.client import RIGHTS, describe
from worker.store.keys import PartitionKeys
from worker.store.scripts import digest, source

REST: Final = 5.0  # seconds until it is tried again, where no worker has loaded the script
_LIFE: Final = str(BELL_LIFE_MS)
_NOTHING_IS_WRITTEN: Final = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.MasterDownError,
)
"""What a server refuses altogether: neither the delivery is there nor the mark."""
_SLOTS: Final = ("i" * 32, "t" * 32)  # where a message has its ids


class Bells:
    """Of each partition, the command that rings for it or marks its bell; another one each time it is asked for."""

    def __init__(self, keys: Sequence[PartitionKeys] = (), carried: Carried | None = None) -> None:
        self._marks = tuple(_pack("SET", key.bell, "1", "NX", "PX", _LIFE) for key in keys)
        self._rings = () if carried is None else tuple(_ring(key, carried) for key in keys)
        self._resting_until = 0.0 if carried is not None else float("inf")

    def __getitem__(self, partition: int) -> bytes:
        if time.monotonic() < self._resting_until:
            return self._marks[partition]
        head, middle, tail = self._rings[partition]
        ids = os.urandom(32).hex().encode()
        return b"%b%b%b%b%b" % (head, ids[:32], middle, ids[32:], tail)

    def heard(self, partitions: Iterable[int], replies: Iterable[Any], sparing: SparingLog) -> tuple[int, list[int]]:
        """How many were rung, and those that the ringer has to ring for, of what was replied to their commands."""
        rung, silent = 0, []
        for partition, reply in zip(partitions, replies, strict=True):
            if reply == b"OK":
                silent.append(partition)
            elif reply == 1:
                rung += 1
            elif isinstance(reply, redis.exceptions.NoScriptError):
                silent.append(partition)
                self._resting_until = max(self._resting_until, time.monotonic() + REST)
            elif isinstance(reply, redis.exceptions.NoPermissionError) and self._resting_until != float("inf"):
                # Rights that were given out before the ingress needed this one.
                silent.append(partition)
                self._resting_until = float("inf")
                sparing.warning("bells_not_carried", "NoPermissionError", why=RIGHTS, error=describe(reply))
            elif isinstance(reply, redis.exceptions.ResponseError) and not isinstance(reply, _NOTHING_IS_WRITTEN):
                # It got as far as the mark, perhaps, and nobody would ring until that has run out.
                silent.append(partition)
                sparing.warning("bell_not_carried", type(reply).__name__, partition=partition, error=describe(reply))
        return rung, silent


def _ring(key: PartitionKeys, carried: Carried) -> tuple[bytes, bytes, bytes]:
    """The command up to the message's first id, from there to the second, and the rest."""
    queue, message = carried.pushed(sequencer_bell(key.partition), _SLOTS)
    command = _pack("EVALSHA", digest(source("ring")), "2", key.bell, queue, _LIFE, message)
    head, _, rest = command.partition(_SLOTS[0].encode())
    middle, _, tail = rest.partition(_SLOTS[1].encode())
    return head, middle, tail


def _pack(*words: bytes | str) -> bytes:
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # the stub takes one word only
    return command
