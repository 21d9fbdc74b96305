"""Where one contender runs once: a fresh server of its own, the work, a folder; and how the run is timed.

Nobody's start-up is measured. The workers are started, warmed and idle before the work appears; it has been loaded
under other names beforehand, so that a few RENAMEs make all of it visible at once (Node's queues are told to begin
instead). The clock runs from there until the last event is done. Progress is looked at seldom while much is left and
often near the end, so looking costs next to nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import redis

from tests import servers
from tests.bench.checker import Verdict
from tests.bench.names import LIST
from tests.bench.usage import usage_of
from tests.bench.workload import Workload
from tests.processes import Process, until

DEADLINE: Final = 180.0  # seconds a run may take; then it is reported as it is
LEAST_PAUSE: Final = 0.004  # seconds between two looks
MOST_SHARE: Final = 0.05  # of the time so far, for the next pause: were the end to come at once, that is the error

_COUNT: Final = "local n = 0 for _, k in ipairs(KEYS) do n = n + redis.call('LLEN', k) end return n"


@dataclass(frozen=True)
class Arena:
    """``client`` gives bytes. ``closing`` has what is to end with the run, however that ends."""

    url: str
    client: redis.Redis
    workload: Workload
    folder: Path
    closing: ExitStack

    @property
    def server_pid(self) -> int:
        info: Any = self.client.info("server")
        return int(info["process_id"])

    def handled(self) -> dict[str, list[int]]:
        """What the handlers have written, in the order of their calls."""
        found: dict[str, list[int]] = {}
        for key in self.client.scan_iter(f"{LIST}*", count=1000):
            entries: Any = self.client.lrange(key, 0, -1)
            found[key.decode().removeprefix(LIST)] = [int(entry) for entry in entries]
        return found

    def count_handled(self) -> int:
        keys = [LIST + team for team in self.workload.expected]
        return int(self.client.eval(_COUNT, len(keys), *keys))

    def wait_for_blocked(self, worker: Process, command: str) -> None:
        """Until ``worker`` waits inside ``command``: it has nothing to do, and would take work if there were some."""

        def blocked() -> bool:
            assert worker.running, worker.output[-2000:]
            listed: Any = self.client.client_list()
            return any(found["cmd"] == command and "b" in found["flags"] for found in listed)

        until(blocked, f"the worker waits in {command}")


class Contender(Protocol):
    """See ``contenders``. ``name`` is for ``--only``; ``title`` and ``note`` for people."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def note(self) -> str: ...

    def why_not(self) -> str | None:
        """Why it can't run here, if so."""

    def preload(self, arena: Arena) -> None:
        """Put the work where the workers do not see it yet."""

    def start(self, arena: Arena) -> list[Process]:
        """Start the workers; they are warm and idle on return."""

    def release(self, arena: Arena) -> None:
        """Let them see the work."""

    def done(self, arena: Arena) -> int:
        """How many events have been handled and put away."""

    def commands_of_done(self, arena: Arena) -> int:
        """How many commands one ``done`` costs the server, to be left out of the count."""

    def verdict(self, arena: Arena) -> Verdict | None:
        """Whether all was as it should be; None where the handler leaves no trace."""


@dataclass(frozen=True)
class Run:
    """One run, measured, in which ``round``. CPU is microseconds an event, memory bytes."""

    contender: str
    round: int
    seconds: float
    events: int
    worker_cpu: float
    server_cpu: float
    worker_rss: int
    server_rss: int
    commands: float
    verdict: Verdict | None
    finished: bool

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds


@contextmanager
def arena_for(workload: Workload) -> Iterator[Arena]:
    """A server and a folder that go when the run is over."""
    with (
        servers.running("valkey") as url,
        redis.Redis.from_url(url) as client,
        tempfile.TemporaryDirectory(prefix="handoff-bench-") as folder,
        ExitStack() as closing,
    ):
        yield Arena(url, client, workload, Path(folder), closing)


def measure(contender: Contender, workload: Workload, number: int = 1) -> Run:
    """Run ``contender`` once, in round ``number``, on a server of its own."""
    with arena_for(workload) as arena, ExitStack() as stack:
        contender.preload(arena)
        workers = contender.start(arena)
        for worker in workers:
            stack.callback(worker.kill)
        pids, server = [worker.pid for worker in workers], [arena.server_pid]
        before, server_before = usage_of(pids), usage_of(server)
        arena.client.config_resetstat()

        began = time.perf_counter()
        contender.release(arena)
        looks, finished = wait_for(lambda: contender.done(arena), workload.events)
        seconds = time.perf_counter() - began

        after, server_after = usage_of(pids), usage_of(server)
        commands = _commands(arena.client) - looks * contender.commands_of_done(arena)
        verdict = contender.verdict(arena)
    return Run(
        contender=contender.name,
        round=number,
        seconds=seconds,
        events=workload.events,
        worker_cpu=(after.cpu - before.cpu) / workload.events * 1e6,
        server_cpu=(server_after.cpu - server_before.cpu) / workload.events * 1e6,
        worker_rss=after.rss,
        server_rss=server_after.rss,
        commands=commands / workload.events,
        verdict=verdict,
        finished=finished,
    )


def wait_for(done: Callable[[], int], events: int) -> tuple[int, bool]:
    """Look until ``done`` says ``events``, ever more often towards the end; how many looks, and whether it did."""
    began = last = time.perf_counter()
    pause, looks, most = LEAST_PAUSE, 0, 0
    while True:
        count, looks = done(), looks + 1
        now = time.perf_counter()
        if count >= events:
            return looks, True
        if count > most:
            most, last = count, now
            pause = (events - count) / (count / (now - began)) / 2  # half of what is left, at the rate so far
        if now - last > DEADLINE / 6 or now - began > DEADLINE:
            return looks, False
        time.sleep(max(LEAST_PAUSE, min(pause, MOST_SHARE * (now - began))))


def _commands(client: redis.Redis) -> int:
    """Commands since the counters were reset, those inside scripts included."""
    stats: Any = client.info("commandstats")
    return sum(int(found["calls"]) for found in stats.values())
