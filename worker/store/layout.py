"""Which node of a cluster has which slot: asked of the nodes (CLUSTER SLOTS), and again whenever it turns out wrong.

    unknown ──ask any node──▶ known ──a node is gone, or says MOVED──▶ in doubt ──ask any other node──▶ known

A node may be cut off from the others and tell what was true some time ago: so each time another one is asked first, and
last the one that failed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from worker.address import Host

PAUSE: Final = 0.2  # seconds between two questions, or every command that fails while a node is away would ask
_ONE_NODE: Final = frozenset({"TIME", "PING"})  # of no key, and answered alike by all
_SECOND: Final = frozenset({"MEMORY", "XINFO", "OBJECT"})  # their first argument is no key


def slot_of(command: Sequence[Any]) -> int | None:
    """The slot that decides which node gets a command; None where any will do.

    Raises ``redis.exceptions.RedisError`` for one that is about a single node: whoever wants that has to say of which.
    """
    name, _, more = str(command[0]).upper().partition(" ")
    if name in ("EVAL", "EVALSHA") and int(command[2]):
        return key_slot(_bytes(command[3]))
    if name in _ONE_NODE:
        return None
    if name == "SCAN" and b"MATCH" in command:
        # The keys of one hash tag, which is all that a pattern with a tag in it can mean.
        pattern = _bytes(command[command.index(b"MATCH") + 1])
        if b"}" in pattern.partition(b"{")[2]:
            return key_slot(pattern)
    at = 2 if name in _SECOND and not more else 1
    if len(command) <= at or name in ("INFO", "CONFIG", "SCRIPT", "CLIENT", "CLUSTER", "EVAL", "EVALSHA", "SCAN"):
        raise redis.exceptions.RedisError(f"{name} is a matter of one node of a cluster")
    return key_slot(_bytes(command[at]))


def read_slots(reply: Any, asked: Host) -> list[tuple[int, int, Host]]:
    """CLUSTER SLOTS as first slot, last slot, primary. A node that knows no name for itself is where it was asked."""
    found = []
    for first, last, (name, port, *_), *_replicas in reply:
        text = name.decode() if isinstance(name, bytes) else name or ""
        found.append((int(first), int(last), Host(text if text not in ("", "?") else asked.name, int(port))))
    return found


class Layout:
    """For any threads. ``ask`` gets a node's answer to CLUSTER SLOTS, and raises as redis-py does."""

    def __init__(self, seeds: Sequence[Host], ask: Callable[[Host], Any]) -> None:
        self.seeds = tuple(seeds)
        self._ask = ask
        self._lock = threading.Lock()
        self._slots: list[Host | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._primaries: tuple[Host, ...] = ()
        self._failed: set[Host] = set()
        self._doubts = 1  # how often something spoke against what is known; so often
        self._settled = 0  # when it was last asked
        self._next = 0.0  # monotonic seconds: when it may be asked again

    def host_of(self, slot: int) -> Host:
        """The node that has the slot, as far as is known. Raises as redis-py does when nobody says."""
        if self._doubts != self._settled:
            self.refresh()
        host = self._slots[slot]
        if host is None:
            self._doubts += 1
            raise redis.exceptions.ConnectionError("no node of the cluster has that part of the keys now")
        return host

    def known(self, slot: int) -> Host | None:
        """What was last heard of the slot, without asking."""
        return self._slots[slot]

    def primaries(self) -> tuple[Host, ...]:
        """All nodes that have slots. Raises as ``host_of`` does."""
        if self._doubts != self._settled:
            self.refresh()
        return self._primaries

    def doubt(self, failed: Host | None = None) -> None:
        """Something went wrong, with that node if one is named: ask again before the next command."""
        if failed is not None:
            self._failed.add(failed)
        self._doubts += 1

    def moved(self, slot: int, host: Host) -> None:
        """A node has said who has the slot now; what else has moved is to be asked."""
        self._slots[slot] = host
        self._doubts += 1

    def refresh(self) -> None:
        """Ask, unless somebody just did. Raises as redis-py does when no node answers."""
        with self._lock:
            doubts = self._doubts  # one that comes up while we ask is to stay
            if doubts == self._settled or (time.monotonic() < self._next and self._primaries):
                return
            try:
                self._take(*self._answer())
                self._settled = doubts
            finally:
                self._next = time.monotonic() + PAUSE

    def _answer(self) -> tuple[Any, Host]:
        hosts = list(dict.fromkeys((*self._primaries, *self.seeds)))
        random.shuffle(hosts)
        hosts.sort(key=lambda host: host in self._failed)
        error: Exception = redis.exceptions.ConnectionError("no node of the cluster is known")
        for host in hosts:
            try:
                reply = self._ask(host)
            except (redis.exceptions.RedisError, OSError) as failed:
                error = failed
                self._failed.add(host)
            else:
                self._failed.discard(host)
                return reply, host
        raise error

    def _take(self, reply: Any, asked: Host) -> None:
        slots: list[Host | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        ranges = read_slots(reply, asked)
        for first, last, host in ranges:
            slots[first : last + 1] = [host] * (last + 1 - first)
        self._slots, self._primaries = slots, tuple(dict.fromkeys(host for *_, host in ranges))


def _bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
