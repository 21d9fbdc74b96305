"""Where the time between a post and a handler's first line goes: what each process does, with the time of it.

Only here, in the bench: a process that imports ``tests.bench.traced`` has the methods named below wrapped, and each
begin and end of one is a line in a file that all processes append to. The clock is the machine's, the same for all of
them. A line costs some three microseconds.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Final

FILE: Final = "BENCH_STEPS"  # the environment variable that names the file

INGRESS: Final = (
    ("ingress.receive:Receiver.receive", "ingress reads the request"),
    ("ingress.line:Line._store_only", "ingress stores it"),
    ("ingress.ringer:Ringer.ring", "ingress wakes its ringer"),
    ("worker.doorbell:Doorbell.ring", "ring"),
)
WORKER: Final = (
    ("worker.doorbell:Doorbell.ring", "ring"),
    ("kombu.transport.redis:Channel._brpop_read", "main process reads a bell"),
    ("celery.concurrency.base:BasePool.apply_async", "main process gives it to the pool"),
    ("worker.runtime.sequencer:Sequencer.run", "sequencer"),
    ("worker.store.sequence:SequenceStore.acquire", "lease"),
    ("worker.store.sequence:SequenceStore.read", "read"),
    ("worker.store.sequence:SequenceStore.load", "load"),
    ("worker.store.sequence:SequenceStore.commit", "commit"),
    ("worker.store.archive:Archive.trim", "trim"),
    ("worker.store.sequence:SequenceStore.release", "release"),
    ("worker.runtime.runner:Runner.run", "runner {0._spec.name}"),
    ("worker.runtime.gate:Gate.ask", "gate"),
    ("worker.store.lanes:LaneStore.claim", "claim"),
    ("worker.store.lanes:LaneStore.settle", "settle"),
)


def install(spots: Iterable[tuple[str, str]]) -> None:
    """Wrap the methods of ``spots``, in this process and those that it forks."""
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for where, label in spots:
        module, _, name = where.partition(":")
        kind, _, method = name.partition(".")
        found = getattr(import_module(module), kind)
        setattr(found, method, _traced(getattr(found, method), label, file))


def _traced(function: Callable[..., Any], label: str, file: int) -> Callable[..., Any]:
    def note(what: str, edge: str) -> None:
        os.write(file, f"{time.monotonic()!r}\t{os.getpid()}\t{edge}\t{what}\n".encode())

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        what = label.format(*args)
        note(what, "begin")
        try:
            return function(*args, **options)
        finally:
            note(what, "end")

    @functools.wraps(function)
    async def call_async(*args: Any, **options: Any) -> Any:
        what = label.format(*args)
        note(what, "begin")
        try:
            return await function(*args, **options)
        finally:
            note(what, "end")

    return call_async if inspect.iscoroutinefunction(function) else call


TASKS: Final = ("sequencer", "runner ")


def table(file: Path, posted: Sequence[float], spacing: float) -> list[tuple[str, float]]:
    """Each step that most posts had, with the median of its time since the post, in seconds.

    ``posted`` are the times of the posts, in order, at least ``spacing`` seconds apart. Of a step that came several
    times the first counts.
    """
    found: dict[str, list[float]] = {}
    seen: set[str] = set()
    within: dict[str, str] = {}  # process -> the task it is in
    at = -1
    for moment, process, edge, what in sorted(_records(file)):
        task = what if what.startswith(TASKS) else within.get(process, "")
        within[process] = "" if what == task and edge == "end" else task
        while at + 1 < len(posted) and posted[at + 1] <= moment:
            at += 1
            seen.clear()
        label = f"{what} {edge}" if what == task or not task else f"{task}: {what} {edge}"
        if at >= 0 and moment < posted[at] + spacing and label not in seen:
            seen.add(label)
            found.setdefault(label, []).append(moment - posted[at])
    return [(label, median(times)) for label, times in found.items() if len(times) > len(posted) / 2]


def _records(file: Path) -> Iterable[tuple[float, str, str, str]]:
    for line in file.read_text().splitlines():
        moment, process, edge, what = line.split("\t")
        yield float(moment), process, edge, what
