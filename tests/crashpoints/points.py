"""The named points. A script has four: a process may die before it sends it, with half of it sent, with all of it sent
and no answer read, and after the answer. Of everything else there is before and after.

A script or a pipeline that is in no row here is found by tests/unit/test_crash_points.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.store.scripts import NAMES


class When(StrEnum):
    BEFORE = "before"
    TORN = "torn"  # half of the command is on its way
    UNREAD = "unread"  # the command was sent, its answer was never seen
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """``target`` is ``module:function`` or ``module:Class.method``, patched where it is looked up."""

    name: str
    target: str


SCRIPTS: Final = NAMES

SEQUENCER: Final = (
    Wrapped("sequencer.read", "worker.store.sequence:SequenceStore.read"),
    Wrapped("sequencer.load", "worker.store.sequence:SequenceStore.load"),
    Wrapped("sequencer.held", "worker.store.sequence:SequenceStore._add_held"),
    Wrapped("sequencer.plan", "worker.runtime.sequencer:plan"),
    Wrapped("sequencer.commit", "worker.store.sequence:SequenceStore.commit"),
    Wrapped("sequencer.write", "worker.runtime.sequencer:Sequencer._write"),
    Wrapped("sequencer.release", "worker.store.sequence:SequenceStore.release"),
)

RUNNER: Final = (
    Wrapped("runner.ask", "worker.runtime.runner:Runner._ask"),
    Wrapped("runner.controls", "worker.store.control:controls"),
    Wrapped("runner.claim", "worker.store.lanes:LaneStore.claim"),
    Wrapped("runner.bodies", "worker.store.lanes:fetch"),
    Wrapped("runner.begin", "worker.runtime.runner:Runner._begin"),
    Wrapped("runner.call", "tests.crashpoints.calling:effect"),
    Wrapped("runner.settle", "worker.runtime.runner:Runner._settle"),
    Wrapped("runner.tell", "worker.runtime.reports:Reports.tell"),
    Wrapped("runner.end", "worker.runtime.runner:Runner._end"),
    Wrapped("rate.demand", "worker.runtime.rates:demand"),
    Wrapped("rate.claimed", "worker.runtime.rates:Rates.claimed"),
    Wrapped("rate.unmade", "worker.runtime.rates:Rates.unmade"),
    Wrapped("conflation.tried", "worker.store.conflation:Conflation._tried"),
    Wrapped("conflation.page", "worker.store.conflation:Conflation._page"),
    Wrapped("conflation.missed", "worker.store.conflation:Conflation._missed"),
    Wrapped("keeper.renew", "worker.runtime.keeper:Held.renew"),
    Wrapped("keeper.hand_back", "worker.runtime.runner:Runner._hand_back"),
    Wrapped("side_run.start", "worker.runtime.side_runs:SideRuns.start"),
    Wrapped("side_run.run", "worker.runtime.side_runs:SideRuns._run"),
    Wrapped("lingering.look", "worker.runtime.runner:Runner.linger"),
)

SWEEPER: Final = (
    Wrapped("sweeper.partitions", "worker.runtime.sweeper:fix_partitions"),
    Wrapped("sweeper.admitted", "worker.runtime.sweeper:controls"),
    Wrapped("sweeper.due", "worker.runtime.sweeper:due"),
    Wrapped("sweeper.trim", "worker.runtime.sweeper:Sweeper._trim"),
)

BELLS: Final = (
    Wrapped("bell.sequencer", "worker.runtime.process:Bells.sequencer"),
    Wrapped("bell.runner", "worker.runtime.process:Bells.runner"),
    Wrapped("bell.runners", "worker.runtime.process:Bells.runners"),
    Wrapped("bell.ring", "worker.doorbell:Doorbell.ring"),
    Wrapped("bell.push", "worker.doorbell:Doorbell._push"),
)

COMMANDS: Final = (
    Wrapped("command.record", "worker.store.actions:record"),
    Wrapped("command.dead.select", "worker.ops.dead_actions:select_dead"),
    Wrapped("command.quarantine.drop", "worker.ops.quarantine_actions:drop_quarantined"),
    Wrapped("command.handler.pause", "worker.store.control:ControlStore.pause"),
    Wrapped("command.handler.resume", "worker.store.control:ControlStore.resume"),
    Wrapped("command.replay.save", "worker.store.replay:Replays.save"),
    Wrapped("command.replay.step", "worker.store.replay:Replay._decide"),
    Wrapped("command.replay.forget", "worker.store.replay:Replays.forget"),
)

INGRESS: Final = (
    Wrapped("intake.submit", "ingress.intake:Intake.submit"),
    Wrapped("intake.batch", "ingress.line:Line._next_batch"),
    Wrapped("intake.reply", "ingress.link:Link.data_received"),
    Wrapped("intake.ring", "ingress.line:Line._ring_new"),
    Wrapped("intake.tell", "ingress.intake:Intake.tell"),
    Wrapped("ringer.take", "ingress.ringer:Ringer._take"),
)
INTAKE_WRITE: Final = "intake.write"  # the one write of a batch; four points, as a script's

WRAPPED: Final = (*SEQUENCER, *RUNNER, *SWEEPER, *BELLS, *COMMANDS, *INGRESS)
DIRECT_WRITE: Final = "write"  # any other write to the state server that is no script: before, torn and unread


def name_of(what: str, when: When) -> str:
    return f"{what}.{when}"


def of_scripts(*names: str) -> list[str]:
    return [name_of(f"script.{name}", when) for name in names for when in When]


def of_wrapped(*rows: Wrapped) -> list[str]:
    return [name_of(row.name, when) for row in rows for when in (When.BEFORE, When.AFTER)]


ALL: Final = (
    *of_scripts(*SCRIPTS),
    *of_wrapped(*WRAPPED),
    *(name_of(INTAKE_WRITE, when) for when in When),
    *(name_of(DIRECT_WRITE, when) for when in (When.BEFORE, When.TORN, When.UNREAD)),
)
