"""One run, from a plan to a verdict: start everything, keep it at work, break it now and then, and look what grew."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.chaos import books, cluster
from tests.chaos.check_time import Bounds
from tests.chaos.checker import check
from tests.chaos.cluster import SECRET, Cluster
from tests.chaos.history import Books, Fault, Finding, History, Post, Terms
from tests.chaos.injector import Injector
from tests.chaos.provider import Provider
from tests.chaos.terms import TERMS
from tests.processes import until
from tests.soak import families, shards, verdicts
from tests.soak.feed import Feed
from tests.soak.person import Person
from tests.soak.plan import Plan
from tests.soak.sampler import Sampler
from tests.soak.samples import Sample, SampleFile
from tests.soak.shards import Shards
from tests.soak.verdicts import Verdicts

TIDY: Final = 90.0  # seconds in which what work leaves behind is taken away: sweepers trim what is left every minute
SAMPLES: Final = "samples.jsonl"


@dataclass(frozen=True)
class Outcome:
    """``posts`` and ``calls`` are how many there were, ``seconds`` how long the load and the work took."""

    verdicts: Verdicts
    findings: Sequence[Finding]
    faults: Sequence[Fault]
    posts: int
    calls: int
    seconds: float
    samples: Path

    @property
    def held(self) -> bool:
        return not self.verdicts.evidence and all(finding.held for finding in self.findings)


class SteadyProvider(Provider):
    """One whose posts go to a file."""

    def __init__(self, plan: Plan, urls: Sequence[str], to: Shards) -> None:
        load = Feed(plan.seed, plan.shape, plan.setup.ingresses, to.message)
        super().__init__(load, urls, SECRET.encode(), seed=plan.seed, patience=plan.finish)
        self.count = 0
        self._to = to

    def keep(self, post: Post) -> None:
        self.count += 1
        self._to.post(post)


def run(plan: Plan, folder: Path, say: Callable[[str], None] = print) -> Outcome:
    """Everything of a run is under ``folder`` afterwards: samples, logs, and what happened, by partition."""
    terms = [term for term in TERMS if term.name != "slow" or plan.setup.slow_workers]
    to = Shards(folder / "partitions", plan.setup.partitions)
    kept = SampleFile(folder / SAMPLES)
    with cluster.running(plan.setup, folder) as running:
        provider = SteadyProvider(plan, running.urls, to)
        injector = Injector(running, plan.steps, say)
        sampler, person = Sampler(running, terms, plan.period, kept.append), Person(running, plan.person)
        began = time.monotonic()
        provider.start()
        sampler.start()
        person.start()
        injector.run(provider.began)
        provider.join()
        say(f"{time.monotonic() - began:7.2f}  the provider has its answers, and nothing is broken any more")
        books.wait_until_done(running, terms, plan.finish)
        ended = time.monotonic()
        say(f"{ended - began:7.2f}  the work is over")
        sampler.stop()
        person.stop()
        during = list(sampler.samples)
        over = _tidied(sampler, _most(running))
        taken = [_books(running, terms, person, number) for number in range(plan.setup.partitions)]
        wrong = running.end()
    for line in wrong:
        say(f"         {line}")
    to.close()
    kept.close()
    shards.sort_records(running.records, to.folder, plan.setup.partitions)
    whole = History(faults=[*injector.done, *running.exits], handlers=terms, began=began, ended=ended)
    found, calls = _checked(whole, taken, to.folder, Bounds())
    return Outcome(
        verdicts=verdicts.judge(during, plan.limits, families.BOUNDS, _most(running), over=over),
        findings=found,
        faults=whole.faults,
        posts=provider.count,
        calls=calls,
        seconds=ended - began,
        samples=kept.path,
    )


def _tidied(sampler: Sampler, most: Callable[[families.Bound], int | None]) -> Sample:
    """A sample of when the work is over, and what was left behind by it had the time to be taken away."""
    latest: list[Sample] = []

    def empty() -> bool:
        latest[:] = [sampler.take()]
        found = latest[0].families
        bounds = families.BOUNDS.items()
        may = {name: 0 if bound.ends else most(bound) if bound.trimmed else None for name, bound in bounds}
        return found is not None and all(bound is None or found[name].entries <= bound for name, bound in may.items())

    with suppress(AssertionError):  # the verdict says what is left
        until(empty, "nothing is left of the work", TIDY, 0.5)
    return latest[0]


def _books(running: Cluster, terms: Sequence[Terms], person: Person, partition: int) -> Books:
    """The books of a partition, with what the person has taken out of the server, or what was trimmed since."""
    found = books.take(running, terms, [partition])
    return replace(
        found,
        dead=[*found.dead, *person.dead[partition]],
        quarantined=person.bodies[partition],
        too_old=person.too_old[partition],
    )


def _checked(whole: History, taken: Sequence[Books], folder: Path, bounds: Bounds) -> tuple[list[Finding], int]:
    """The invariants over all partitions, one after the other; and how many calls there were."""
    merged: dict[int, Finding] = {}
    events = calls = 0
    for number, found in enumerate(taken):
        history = shards.history(folder / f"{number:02d}", replace(whole, books=found))
        events += len(history.accepted_events)
        calls += len(history.calls)
        for finding in check(history, bounds):
            before = merged.get(finding.number, replace(finding, evidence=()))
            where = [f"partition {number}: {line}" for line in finding.evidence]
            merged[finding.number] = replace(before, evidence=[*before.evidence, *where])
    checked = f"{events:,} events, {calls:,} calls, in {len(taken)} partitions"
    return [replace(finding, checked=checked) for finding in merged.values()], calls


def _most(running: Cluster) -> Callable[[families.Bound], int | None]:
    return lambda bound: None if bound.most is None else bound.most(running.settings, running.setup.partitions)
