"""What is going on when a process dies: each scenario is a piece of work that touches some of the points.

``prepare`` makes the state before, ``act`` is what the process does that may die, and what a person repeats if it was
a person's command. Handlers are called in the process itself, one call after another: so points come in the same order
each time.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.crashpoints import calling
from tests.crashpoints.bench import PARTITION, Act, Bench
from tests.crashpoints.snapshot import pairs
from tests.store_kit import change, other
from worker import AssigneeChange, BatchContext, Context, DeadLetter, Discard, Retry
from worker.core.breaker import Breaker, Circuit
from worker.core.handlers import HandlerSpec, define
from worker.core.liveness import Condition
from worker.core.retry import Backoff
from worker.runtime.keeper import SLOW
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer
from worker.runtime.sweeper import Sweeper
from worker.store.heartbeats import Beat, Heartbeats
from worker.store.ledger import Bounds

AT_ONCE: Final = Backoff(base=0.0, cap=0.0)


@dataclass(frozen=True)
class Scenario:
    """``exact``: what is stored in the end is the same whoever died; where it is False, calls may have been joined in
    another way, and it is only balanced. ``again``: the act is done again by hand, for it is a command."""

    name: str
    prepare: Act
    act: Act
    specs: Callable[[], list[HandlerSpec]]
    options: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
    again: bool = False


def plain(name: str, acts: Mapping[str, BaseException] | None = None, *, down: int = 0, **options: Any) -> HandlerSpec:
    """A handler that raises what ``acts`` says for "team-seq", a ``Retry`` at the first attempt only; and whose far
    side is down for the first so many calls."""
    calls = itertools.count(1)

    def function(subject: AssigneeChange, ctx: Context) -> None:
        error = (acts or {}).get(f"{subject.team_id}-{subject.seq}")
        if error is not None and (ctx.attempt == 1 or not isinstance(error, Retry)):
            raise error
        if next(calls) <= down:
            raise ConnectionError("down")
        calling.effect(name, subject, ctx.attempt)

    own = {} if {"on", "conflate"} & options.keys() else {"unchanged": True}
    return define(function, **_terms(name, **own, **options))


def _terms(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "queue": "q", "backoff": AT_ONCE, "breaker": None} | options


def batched(name: str, **options: Any) -> HandlerSpec:
    def function(changes: list[AssigneeChange], ctx: BatchContext) -> None:
        if len(changes) > 1 and any(subject.seq == 2 for subject in changes):
            raise ValueError("all together not")
        for subject, attempt in zip(changes, ctx.attempts, strict=True):
            calling.effect(name, subject, attempt)

    return define(function, **_terms(name, **{"unchanged": True, "batch": 3} | options))


def fill(bench: Bench, **teams: int) -> None:
    bench.deliver(*(change(team, seq) for team, count in teams.items() for seq in range(1, count + 1)))


def run(*names: str) -> Act:
    """Answer the doorbells of these runners, one after another."""

    def act(bench: Bench) -> None:
        process = bench.process()
        for spec in bench.specs:
            if not names or spec.name in names:
                Runner(process, spec, PARTITION).run()

    return act


def sequence(bench: Bench) -> None:
    Sequencer(bench.process(), PARTITION).run()


def all_kinds(bench: Bench) -> None:
    """A delivery of every kind: in order, filling a gap, above one, doubled, late, unreadable, proven, of no owner."""
    bench.deliver(change("a", 1), change("a", 3, assignee="m3"), change("b", 1), change("c", 7), change("c", 9))
    bench.partition.append(change("a", 1), change("a", 2), change("b", 3), other("d", 1), b"nonsense", change("d", 2))
    bench.eye.xadd(bench.partition.keys.inbox, {"proof": 8, "t": "c"})
    bench.partition.append(change("d", 3, assignee="m2"), change("b", 2), change("e", 5), change("e", 6))


def two_handlers() -> list[HandlerSpec]:
    return [plain("crm"), plain("mail", on=("*",))]


def hand_back(bench: Bench) -> None:
    """A slow call in one lane, behind which others wait: the keeper hands those back, and keeps the one's lease."""
    process, (spec,) = bench.process(), bench.specs
    runner = Runner(process, spec, PARTITION)
    claim = runner._store.claim(lanes=9, jobs=9, per_lane=1)
    runner._active = runner._begin(claim)
    runner._held.lanes = tuple(runner._active)
    slow = runner._active[0]
    slow.begin()
    slow.started = time.monotonic() - SLOW - 1
    runner._held.renew()
    calling.effect(spec.name, slow.claimed.jobs[0] and _subject(slow), 1)
    slow.done, slow.started, slow.finished = 1, 0.0, True
    runner._settle()


def _subject(lane: Any) -> Any:
    from worker.runtime.calls import subject_of

    return subject_of(plain("crm"), lane.claimed.jobs[0])


def sweep(bench: Bench) -> None:
    Sweeper(bench.settings, {spec.name: spec for spec in bench.specs}).sweep()


def backed_up(bench: Bench) -> None:
    bench.deliver(*(change("a", seq, prospect="pq"[seq % 2], assignee=f"m{seq % 3}") for seq in range(1, 9)))
    bench.deliver(*(change("b", seq, assignee=f"m{seq}") for seq in range(1, 4)))


def to_and_fro(bench: Bench) -> None:
    """What the handler knows of a prospect, and two changes that leave it as it was."""
    bench.deliver(change("a", 1, assignee="m1"), change("b", 1))
    run()(bench)
    bench.pass_by()
    bench.effects.clear()
    bench.deliver(change("a", 2, assignee="m2"), change("a", 3, assignee="m1"), change("b", 2, assignee="m2"))


def outage(bench: Bench) -> None:
    fill(bench, a=2, b=1)
    bench.open_circuit("crm", Circuit(opened=1, until=1, error="ConnectionError"))


def unread(bench: Bench) -> None:
    fill(bench, a=2, b=1)
    bench.partition.append(*(change("c", seq) for seq in range(1, 60)))


def beat(bench: Bench) -> None:
    """A worker says how it is getting on, and that it ends."""
    process = bench.process()
    store = Heartbeats(process.client, process.scripts, bench.prefix)
    names: dict[str, Any] = {
        "id": "w",
        "name": "w@host",
        "host": "host",
        "version": "1",
        "celery": "5",
        "pool": "prefork",
    }
    numbers: dict[str, Any] = {"pid": 1, "started": 1, "places": 2, "busy": 0, "received": 0, "received_at": None}
    rest: dict[str, Any] = {"queues": [], "condition": Condition.WORKING, "unheard": 0.0, "waiting": None}
    store.write(Beat(**names, **numbers, **rest, handlers={}, skew_ms=0))
    store.leave("w")


def neglected(bench: Bench) -> None:
    """Lanes that are due and deliveries that are unread, with every bell lost."""
    fill(bench, a=2, b=1)
    bench.pass_by()
    bench.partition.append(change("a", 3), change("c", 1))


def buried(bench: Bench) -> None:
    fill(bench, a=3, b=2, c=1)
    run("crm")(bench)
    bench.effects.clear()


def letters() -> list[HandlerSpec]:
    return [plain("crm", {"a-1": DeadLetter("no"), "a-2": DeadLetter("no"), "b-1": DeadLetter("no")})]


def quarantined(bench: Bench) -> None:
    bench.deliver(change("a", 1), b"nonsense", b"more of it", change("b", 1))
    for entry, fields in bench.eye.xrange(bench.partition.keys.quarantine):
        if (words := dict(pairs(fields)))[b"b"] == b"nonsense":  # as if this version could read what the last could not
            words[b"b"] = change("c", 1)
            bench.eye.xdel(bench.partition.keys.quarantine, entry)
            bench.eye.xadd(bench.partition.keys.quarantine, words)


def command(*words: str) -> Act:
    def act(bench: Bench) -> None:
        bench.handoff(*words)

    return act


def acts(*several: Act) -> Act:
    def act(bench: Bench) -> None:
        for one in several:
            one(bench)

    return act


def archived(bench: Bench) -> None:
    fill(bench, a=3, b=2)
    run("crm", "mail")(bench)
    bench.effects.clear()


def replay(bench: Bench) -> None:
    """A replay, or what is left of one."""
    unfinished = json.loads(bench.handoff("replay", "--list", "--json").out)
    if unfinished:
        bench.handoff("replay", "--resume", unfinished[0]["id"])
    elif ("mail", "a", 1) not in bench.effects:
        bench.handoff("replay", "--to", "mail", "--yes")


ONE_CALL: Final = Breaker(calls=1, teams=1, pause=600, longest=600)
TROUBLE: Final = {"a-2": Retry(), "b-1": Discard("no"), "b-2": DeadLetter("no")}

SCENARIOS: Final = (
    Scenario("sequencing", all_kinds, sequence, two_handlers),
    Scenario("sequencing into an archive", all_kinds, sequence, two_handlers, {"archive_events": 4}),
    Scenario(
        "sequencing for a slice", all_kinds, sequence, two_handlers, patches={"worker.runtime.sequencer.SLICE": 0.0}
    ),
    Scenario(
        "running", lambda bench: fill(bench, a=4, b=3, c=1), run(), lambda: [plain("crm", TROUBLE), plain("mail")]
    ),
    Scenario(
        "running into a block",
        lambda bench: fill(bench, a=3, b=2),
        run(),
        lambda: [plain("crm", {"a-2": ValueError("no")}, attempts=2, on_exhausted="block")],
    ),
    Scenario(
        "running at a rate",
        lambda bench: fill(bench, a=2, b=1),
        run(),
        lambda: [plain("crm", rate="100/1h"), plain("mail", team_rate="50/1h")],
    ),
    Scenario("running batches", lambda bench: fill(bench, a=2, b=3), run(), lambda: [batched("crm", batch_wait=0.0)]),
    Scenario(
        "waiting for a batch",
        lambda bench: fill(bench, a=2, b=1),
        run(),
        lambda: [batched("crm", batch=50, batch_wait=30.0)],
        exact=False,
    ),
    Scenario("conflating", backed_up, run(), lambda: [plain("crm", conflate=True)], exact=False),
    Scenario(
        "conflating at a team's rate",
        to_and_fro,
        run(),
        lambda: [plain("crm", conflate=True, team_rate="5/1h")],
        exact=False,
    ),
    Scenario(
        "running into an outage",
        lambda bench: fill(bench, a=2, b=2),
        run(),
        lambda: [plain("crm", down=2, breaker=ONE_CALL)],
    ),
    Scenario("probing", outage, run(), lambda: [plain("crm", breaker=ONE_CALL)]),
    Scenario("keeping leases", lambda bench: fill(bench, a=1, b=1, c=1), hand_back, lambda: [plain("crm")]),
    Scenario(
        "keeping leases at a rate",
        lambda bench: fill(bench, a=1, b=1),
        run(),
        lambda: [plain("crm", rate="1/1h")],
    ),
    Scenario("beating", lambda bench: fill(bench, a=1), beat, lambda: [plain("crm")]),
    Scenario("sweeping", neglected, sweep, two_handlers, {"archive_events": 2}),
    Scenario(
        "dead retry",
        buried,
        command("dead", "retry", "--all", "--yes"),
        letters,
        again=True,
    ),
    Scenario(
        "dead drop",
        buried,
        command("dead", "drop", "--all", "--yes"),
        letters,
        again=True,
    ),
    Scenario(
        "quarantine retry", quarantined, command("quarantine", "retry", "--all", "--yes"), two_handlers, again=True
    ),
    Scenario("quarantine drop", quarantined, command("quarantine", "drop", "--all", "--yes"), two_handlers, again=True),
    Scenario(
        "lanes",
        lambda bench: fill(bench, a=2, b=1),
        acts(
            command("lanes", "pause", "crm", "a", "--yes"),
            command("lanes", "resume", "crm", "a", "--yes"),
        ),
        lambda: [plain("crm")],
        again=True,
    ),
    Scenario(
        "handlers",
        lambda bench: fill(bench, a=2),
        acts(command("handlers", "pause", "crm"), command("handlers", "resume", "crm")),
        lambda: [plain("crm")],
        again=True,
    ),
    Scenario("replay", archived, replay, lambda: [plain("crm"), plain("mail")], {"archive_events": 100}, again=True),
    Scenario(
        "reading",
        unread,
        acts(command("status"), command("audit", "--deep"), command("lanes", "list")),
        lambda: [plain("crm")],
        patches={"worker.ops.auditing.DEEP": Bounds(1, 1, 1000)},
        again=True,
    ),
)
