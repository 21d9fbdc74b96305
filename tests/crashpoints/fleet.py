"""Real workers that are killed at named points, each point in a partition of its own, all on one server.

A partition has one team, whose events go to one handler. As soon as somebody has died there, another event of the team
comes in, so that there is always something to go on with; how long that took is told by the server's clock: from the
death to the next call that begins, or job that ends.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis

from tests import processes, servers
from tests.crashpoints import killing
from tests.crashpoints.killing import Death, Order
from tests.processes import Process
from tests.road import WORKER
from tests.store_kit import change, other
from worker.doorbell import BELL_LIFE_MS, Doorbell
from worker.settings import Settings
from worker.store.keys import PartitionKeys, partition_of, sweeper

EVENTS: Final = 5
PROMISE: Final = 5.0  # seconds from a death to the next call or end of a job, with nobody's help
HEADROOM: Final = 2.0  # times as long as that is allowed where other things run on the machine, too
DEADLINE: Final = 240.0  # seconds; only ever used up by a failure


class Plan(NamedTuple):
    """One point at which one partition's process is to die, and the kind of handler that is at work. ``anywhere``: the
    point is not a partition's. ``all_of_it``: the whole worker goes, and not the process of its pool alone."""

    kind: str
    point: str
    anywhere: bool = False
    all_of_it: bool = False


@dataclass
class Case:
    """A partition of the fleet, its team and what becomes of them."""

    plan: Plan
    partition: int
    team: str
    sent: int = 0
    death: Death | None = None
    resumed: float | None = None  # seconds

    @property
    def handler(self) -> str:
        return self.plan.kind


@dataclass
class Fleet:
    url: str
    settings: Settings
    folder: Path
    orders: Path
    environment: dict[str, str]
    client: redis.Redis
    cases: list[Case]
    control: Case
    waited: float = 0.0  # seconds: the longest that a job of the control took, in whose partition nobody dies
    workers: list[Process] = field(default_factory=list)

    def start_worker(self, *options: str) -> None:
        command = processes.python("tests.crashpoints.killing", "celery", "-A", "worker", *WORKER, *options)
        self.workers.append(processes.start(command, self.environment, self.folder))

    def send(self, case: Case, count: int) -> None:
        """Further events of a team, as the ingress stores and rings for them; the second comes last, over a gap."""
        keys = PartitionKeys(self.settings.prefix, case.partition)
        seqs = list(range(case.sent + 1, case.sent + count + 1))
        if count > 2:
            seqs.append(seqs.pop(1))
        pipe: Any = self.client.pipeline(transaction=False)
        for seq in seqs:
            pipe.xadd(keys.inbox, {"b": _body(case, seq)})
        pipe.set(keys.bell, 1, nx=True, px=BELL_LIFE_MS)
        if pipe.execute()[-1]:
            bell = Doorbell(self.settings)
            bell.ring_sequencer(case.partition)
            bell.close()
        case.sent += count

    def run(self) -> None:
        """Until every point has had its death, everything sent is done, and it is known how long that took."""
        sweeping = sweeper(self.settings.prefix)
        processes.until(lambda: self.client.exists(sweeping), "a worker has started", DEADLINE, pause=0.1)
        for case in self.cases:
            self.send(case, EVENTS)
        end = time.monotonic() + DEADLINE
        while missing := [case for case in self.cases if not self._look(case)]:
            if time.monotonic() > end:
                raise AssertionError(f"{missing}: {[worker.output[-3000:] for worker in self.workers]}")
            self._look_at_control()
            time.sleep(0.05)

    def _look_at_control(self) -> None:
        """How long a job takes on this machine just now, beside all the deaths: the next is sent when one has ended."""
        keys, ends = PartitionKeys(self.settings.prefix, self.control.partition), self._ends(self.control)
        if len(ends) < self.control.sent:
            return
        if ends:
            newest: Any = self.client.xrevrange(keys.inbox, count=1)
            self.waited = max(self.waited, (max(ends) - int(newest[0][0].split(b"-")[0])) / 1000)
        self.send(self.control, 1)

    def _look(self, case: Case) -> bool:
        """Whether a case is over."""
        if case.death is None:
            case.death = killing.deaths(self.orders).get(self.cases.index(case))
            if case.death is None:
                if self.ended(case) >= case.sent:  # whoever came there died of another's order just before: once more
                    self.send(case, EVENTS if case.plan.kind == "conflating" else 1)  # one alone is never conflated
                return False
            self.send(case, 1)
        if case.resumed is None:
            case.resumed = self._resumed(case, case.death)
        return self.ended(case) >= case.sent

    def ended(self, case: Case) -> int:
        return len(self._ends(case))

    def _ends(self, case: Case) -> list[int]:
        """When the jobs of a case ended, server ms."""
        ends: Any = self.client.hgetall(PartitionKeys(self.settings.prefix, case.partition).ends)
        return [int(text.split(b" ")[1]) for text in ends.values()]

    def _resumed(self, case: Case, death: Death) -> float | None:
        # A call that begins is progress, too: how long it takes is its far side's to say.
        times = [*self._ends(case), *(at for *_, at in self.calls(case))]
        later = [at for at in times if at > death.at]
        return (min(later) - death.at) / 1000 if later else None

    def calls(self, case: Case) -> list[tuple[int, int, int, int, int]]:
        """seq, pid, its parent's, attempt and server ms of each call that took effect, in order."""
        found: Any = self.client.lrange(f"calls:{case.team}", 0, -1)
        return [tuple(json.loads(text)) for text in found]

    def check(self) -> None:
        """Every event took effect, in order, and twice only where the first of the two died."""
        killed = {pid for death in killing.deaths(self.orders).values() for pid in death.pids}
        for case in self.cases:
            calls, what = self.calls(case), f"{case.plan}: {self.calls(case)}, killed {killed}"
            seqs = [seq for seq, *_ in calls]
            wanted = set(range(1, case.sent + 1)) - ({2} if case.plan.kind == "burying" else set())
            assert set(seqs) == wanted if case.plan.kind != "conflating" else max(seqs) == case.sent, what
            for (seq, pid, parent, *_), (later, *_) in itertools.pairwise(calls):
                assert later > seq or {pid, parent} & killed, what
            lived = [seq for seq, pid, parent, *_ in calls if not {pid, parent} & killed]
            assert len(set(lived)) == len(lived), what
        self._save_report()
        most = PROMISE * HEADROOM + self.waited
        slow = {case.plan: case.resumed for case in self.cases if (case.resumed or 0) > most}
        assert not slow, slow
        audit = processes.start(processes.python("worker.ops.cli", "audit"), self.environment, self.folder)
        assert audit.wait() == 0, audit.output

    def _save_report(self) -> None:
        """Where ``CRASH_REPORT`` names a file: what was measured."""
        if name := os.environ.get("CRASH_REPORT"):
            with Path(name).open("a") as file:
                file.write(self.report() + "\n")

    def report(self) -> str:
        """How long each took, the longest first."""
        took = sorted(((case.resumed or 0, case.plan) for case in self.cases), reverse=True)
        took.append((self.waited, Plan("control", "nobody dies")))
        return "\n".join(f"{seconds:6.2f} s  {plan.kind:10} {plan.point}" for seconds, plan in took)


def _body(case: Case, seq: int) -> bytes:
    if case.plan.kind == "conflating":
        return change(case.team, seq, assignee=f"m{seq}")
    return other(case.team, seq, event_type=f"kind.{case.plan.kind}")


def _team(kind: str, partition: int, partitions: int) -> str:
    names = (f"{kind}-{number}" for number in itertools.count())
    return next(name for name in names if partition_of(name, partitions) == partition)


@contextmanager
def running_fleet(folder: Path, plans: Sequence[Plan], *, workers: int = 2, children: int = 2) -> Iterator[Fleet]:
    """A server, workers, and a partition for each of ``plans``."""
    partitions = len(plans) + 1
    cases = [Case(plan, place, _team(plan.kind, place, partitions)) for place, plan in enumerate(plans)]
    control = Case(Plan("plain", ""), len(plans), _team("plain", len(plans), partitions))
    orders = folder / "orders"
    orders.mkdir()
    killing.give(
        orders,
        [
            Order(case.plan.point, -1 if case.plan.anywhere else case.partition, 1, case.plan.all_of_it)
            for case in cases
        ],
    )
    with ExitStack() as stack:
        url = stack.enter_context(servers.running("valkey"))
        environment = {
            "HANDOFF_REDIS_URL": url,
            "HANDOFF_HANDLERS": "tests.crashpoints.handlers",
            "HANDOFF_PARTITIONS": str(partitions),
            "HANDOFF_GAP_WAIT": "0.3",
            "HANDOFF_LOG_FORMAT": "json",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            killing.ORDERS: str(orders),
        }
        client = stack.enter_context(redis.Redis.from_url(url))
        settings = Settings(redis_url=url, partitions=partitions)
        fleet = Fleet(url, settings, folder, orders, environment, client, cases, control)
        try:
            for _ in range(workers):
                fleet.start_worker("-c", str(children))
            yield fleet
        finally:
            for process in fleet.workers:
                process.kill()
