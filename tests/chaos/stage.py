"""A small cluster for a scenario that is acted out by hand: what happens next waits for what was seen, not for time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from ingress.signature import HEADER, sign
from tests.chaos import books, cluster
from tests.chaos.check_time import Bounds
from tests.chaos.checker import check
from tests.chaos.cluster import PARTITIONS, SECRET, Cluster, Setup
from tests.chaos.history import Call, Fault, History, Message, Post, Terms
from tests.chaos.running import Verdict
from tests.chaos.terms import TERMS
from tests.chaos.workload import message
from tests.processes import until
from worker.doorbell import BELL_LIFE_MS, Doorbell
from worker.store.keys import PartitionKeys, partition_of

SMALL = Setup(ingresses=0, workers=1, slow_workers=0, processes=1)
"""Without an ingress, whose part the stage then plays: most safeguards are the workers'."""
PATIENCE = 180.0  # seconds for what has to come; only a failure uses them up


@dataclass
class Stage:
    """A running cluster, and what was done to it so far."""

    cluster: Cluster
    handlers: list[Terms] = field(default_factory=lambda: [terms for terms in TERMS if terms.name != "slow"])
    messages: dict[str, Message] = field(default_factory=dict)
    posts: list[Post] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def event(self, team: str, seq: int, prospect: str, assignee: str | None, **trouble: object) -> Message:
        """An event that names an owner, happening now."""
        return message(team, seq, datetime.now(UTC), prospect=prospect, assignee=assignee, trouble=trouble)

    def send(self, *messages: Message) -> None:
        """Post each until it is answered 202; or store it and ring, as an ingress does."""
        if not self.cluster.ingresses:
            self.store(*messages)
            return
        with httpx.Client(timeout=3) as client:
            for each in messages:
                self.messages[each.key] = each
                until(lambda each=each: self._post(client, each) == 202, f"{each.key} is accepted", PATIENCE)  # type: ignore[misc]

    def offer(self, each: Message) -> bool:
        """Post it once; whether it was accepted."""
        self.messages[each.key] = each
        with httpx.Client(timeout=3) as client:
            return self._post(client, each) == 202

    def calls(self) -> list[Call]:
        return sorted(books.records(self.cluster.records)[0], key=lambda call: call.start)

    def called(self, handler: str, key: str, *, times: int = 1, done: bool = False) -> Call:
        """Wait until an event was called for (so often, and, if asked, to its end); its latest call."""

        def found() -> list[Call]:
            calls = [call for call in self.calls() if (call.handler, call.key) == (handler, key)]
            return [call for call in calls if call.outcome == "done" or not done]

        until(lambda: len(found()) >= times, f"{handler} is called for {key}, {times} times", PATIENCE, 0.03)
        return found()[-1]

    @contextmanager
    def stopped(self, *pids: int) -> Iterator[None]:
        """Processes that are stopped meanwhile."""
        begin = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            self.faults.append(Fault("stop", begin, time.monotonic(), pids=pids))

    def killed(self, pid: int) -> None:
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.faults.append(Fault("kill", at, at, pids=(pid,)))

    @contextmanager
    def without_server(self) -> Iterator[None]:
        begin = time.monotonic()
        self.cluster.server.kill()
        try:
            yield
        finally:
            self.cluster.server.start()
            self.faults.append(Fault("kill server", begin, time.monotonic()))

    def store(self, *messages: Message, ring: bool = True) -> None:
        """Store each and ring for it, as an ingress does, or lose the bell."""
        settings, bell = self.cluster.settings, Doorbell(self.cluster.settings)
        with self.cluster.server.client() as client:
            for each in messages:
                self.messages[each.key] = each
                keys = PartitionKeys(settings.prefix, partition_of(each.team, PARTITIONS))
                sent = time.monotonic()
                client.xadd(keys.inbox, {"b": each.body})
                self.posts.append(Post(each.key, sent, time.monotonic(), 202))
                if client.set(keys.bell, 1, nx=True, px=BELL_LIFE_MS) and ring:
                    bell.ring_sequencer(keys.partition)
        bell.close()

    def _post(self, client: httpx.Client, each: Message) -> int:
        sent = time.monotonic()
        headers = {HEADER: sign(each.body, SECRET.encode(), int(time.time()))}
        try:
            url = f"{self.cluster.urls[0]}/webhooks/inbox"
            status = client.post(url, content=each.body, headers=headers).status_code
        except httpx.HTTPError:
            status = 0
        self.posts.append(Post(each.key, sent, time.monotonic(), status))
        return status


@dataclass(frozen=True)
class Scenario:
    """``act`` is what happens; then everything has ``finish`` seconds to be done."""

    act: Callable[[Stage], None]
    setup: Setup = SMALL
    bounds: Bounds = field(default_factory=Bounds)
    finish: float = 30.0


def play(scenario: Scenario, folder: Path, *, sabotage: str = "", server: str = "valkey") -> Verdict:
    """Act a scenario out, with a safeguard taken out or with all in place; the verdict on it."""
    with cluster.running(replace(scenario.setup, sabotage=sabotage, server=server), folder) as running:
        began = time.monotonic()
        stage = Stage(running)
        scenario.act(stage)
        books.wait_until_done(running, stage.handlers, scenario.finish)
        ended = time.monotonic()
        taken = books.take(running, stage.handlers)
        running.end()
    calls, leases, commits, exits = books.records(running.records)
    history = History(
        messages=list(stage.messages.values()),
        posts=stage.posts,
        calls=calls,
        faults=[*stage.faults, *exits, *running.exits],
        taken=leases,
        committed=commits,
        handlers=stage.handlers,
        books=taken,
        began=began,
        ended=ended,
    )
    return Verdict(history, check(history, scenario.bounds))
