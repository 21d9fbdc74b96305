"""A real process that ends itself with SIGKILL at the points that its orders name.

    python -m tests.crashpoints.killing celery -A worker worker ...

runs the module that follows, with its functions patched (patching.py). ``CRASH_ORDERS`` is a folder: ``orders.json`` in
it has the orders, and each that was carried out leaves a file there, so that it is carried out once, by whichever
process comes there first: children that a worker's pool puts in the place of the dead are patched too.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import redis

from tests.crashpoints.patching import install
from worker.store.keys import partition_of

ORDERS: Final = "CRASH_ORDERS"
FILE: Final = "orders.json"


class Order(NamedTuple):
    """Die at the ``number``-th coming to ``point`` in a partition; -1: in any. ``all_of_it``: not the process of the
    pool alone, but the worker that it belongs to."""

    point: str
    partition: int
    number: int = 1
    all_of_it: bool = False


class Death(NamedTuple):
    """When, by the server's clock, in ms, and whose."""

    at: int
    pids: tuple[int, ...]


def give(folder: Path, orders: list[Order]) -> None:
    (folder / FILE).write_text(json.dumps(orders))


def deaths(folder: Path) -> dict[int, Death]:
    """Those that have come to pass, by the place of their order."""
    found = {}
    for path in folder.glob("*.dead"):
        text = path.read_text()
        if text:  # else it is being written
            at, pids = json.loads(text)
            found[int(path.stem)] = Death(at, tuple(pids))
    return found


class Killer:
    """The agent of a process that may have to end itself."""

    waits = False

    def __init__(self, folder: Path, url: str) -> None:
        orders = [Order(*order) for order in json.loads((folder / FILE).read_text())]
        self._folder = folder
        self._url = url
        self._orders: dict[str, list[tuple[int, Order]]] = {}
        for place, order in enumerate(orders):
            self._orders.setdefault(order.point, []).append((place, order))
        self._counts: Counter[tuple[str, int]] = Counter()
        self._here = threading.local()
        self._whole = False

    def arrive(self, point: str, args: tuple[Any, ...]) -> bool:
        partition = _partition(point, args)
        if partition is None:
            partition = getattr(self._here, "partition", -1)
        else:
            self._here.partition = partition
        if point not in self._orders:
            return False
        self._counts[point, partition] += 1
        for place, order in self._orders[point]:
            meant = order.partition in (partition, -1) and self._counts[point, partition] >= order.number
            if meant and self._carry_out(place, order):
                return True
        return False

    def _carry_out(self, place: int, order: Order) -> bool:
        try:
            file = os.open(self._folder / f"{place}.dead", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        pids = [os.getpid()]
        if order.all_of_it:
            self._whole = True
            pids.append(os.getppid())
        with redis.Redis.from_url(self._url) as client:
            seconds, micros = client.time()
        os.write(file, json.dumps([seconds * 1000 + micros // 1000, pids]).encode())
        os.close(file)
        return True

    def die(self) -> NoReturn:
        if self._whole:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still here")

    def check(self) -> None:
        return


_TAG: Final = re.compile(r"\{p(\d+)\}")


def _partition(point: str, args: tuple[Any, ...]) -> int | None:
    """The partition that a call is about, if its arguments say so."""
    if point.startswith("runner.call."):  # which an event loop makes, or a thread: they know the event alone
        return partition_of(args[1].team_id, int(os.environ["HANDOFF_PARTITIONS"]))
    for arg in args:
        for name in ("_partition", "partition"):
            number = getattr(arg, name, None)
            if isinstance(number, int):
                return number
        keys = getattr(arg, "_keys", None) or getattr(arg, "keys", None)
        if isinstance(getattr(keys, "partition", None), int):
            return int(keys.partition)
        names = getattr(getattr(arg, "store", arg), "_renew_keys", None) or arg
        text = names.decode(errors="replace") if isinstance(names, bytes) else str(names)
        if _is_text(names) and (found := _TAG.search(text)):
            return int(found[1])
    # Bells are told which by its number alone.
    return next((arg for arg in args if isinstance(arg, int)), None) if point.startswith("bell.") else None


def _is_text(names: Any) -> bool:
    """Whether it is a key or several; not so the keys of all partitions."""
    return isinstance(names, bytes | str) or (isinstance(names, list) and all(isinstance(one, str) for one in names))


def main() -> None:
    import worker.runtime.sequencer
    import worker.store.lanes
    import worker.store.sequence
    from worker.settings import load_settings

    # Few events pass every point: a part of them comes along with the lease and the claim, the others are asked for.
    worker.store.sequence.FIRST_BATCH = worker.runtime.sequencer.FIRST_BATCH = 2  # type: ignore[misc]
    worker.store.lanes.BODIES_ALONG = 1  # type: ignore[misc]
    install(Killer(Path(os.environ[ORDERS]), load_settings().redis_url))
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
