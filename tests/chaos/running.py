"""One run, from a plan to a verdict: start everything, send and break, wait for the end of the work, look at it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos import books, cluster
from tests.chaos.check_time import Bounds
from tests.chaos.checker import check
from tests.chaos.cluster import SECRET, Setup
from tests.chaos.history import Finding, History
from tests.chaos.injector import Injector
from tests.chaos.provider import Provider
from tests.chaos.schedule import Step
from tests.chaos.terms import TERMS
from tests.chaos.workload import Workload

FINISH: Final = 90.0
"""Seconds after the load and the faults in which everything has to be done, with nobody's help. A job that a handler's
death gave up, or a backlog of an outage on a busy machine, takes some of them."""


@dataclass(frozen=True)
class Plan:
    """What is to happen. All of it follows from the seed and what was asked for."""

    seed: int
    workload: Workload
    steps: Sequence[Step]
    setup: Setup = field(default_factory=Setup)
    bounds: Bounds = field(default_factory=Bounds)
    finish: float = FINISH


@dataclass(frozen=True)
class Verdict:
    history: History
    findings: Sequence[Finding]

    @property
    def broken(self) -> list[int]:
        return [finding.number for finding in self.findings if not finding.held]


def run(plan: Plan, folder: Path, say: Callable[[str], None] = print) -> Verdict:
    """Everything of a run is under ``folder`` afterwards: logs, the server's files, records, the history's parts."""
    terms = [term for term in TERMS if term.name != "slow" or plan.setup.slow_workers]
    with cluster.running(plan.setup, folder) as running:
        provider = Provider(plan.workload, running.urls, SECRET.encode(), seed=plan.seed, patience=plan.finish)
        injector = Injector(running, plan.steps, say)
        began = time.monotonic()
        provider.start()
        injector.run(provider.began)
        provider.join()
        say(f"{time.monotonic() - began:7.2f}  the provider has its answers, and nothing is broken any more")
        books.wait_until_done(running, terms, plan.finish)
        ended = time.monotonic()
        say(f"{ended - began:7.2f}  the work is over")
        taken = books.take(running, terms)
        nobody = running.nobody(ended)
        wrong = running.end()
    for line in wrong:
        say(f"         {line}")
    calls, leases, commits, exits = books.records(running.records)
    history = History(
        messages=plan.workload.messages,
        posts=provider.posts,
        calls=calls,
        faults=[*injector.done, *exits, *running.exits],
        taken=leases,
        committed=commits,
        handlers=terms,
        books=taken,
        nobody=nobody,
        began=began,
        ended=ended,
    )
    return Verdict(history, check(history, plan.bounds))
