"""The two kinds of Celery task: thin, for all they do is answer a doorbell."""

from __future__ import annotations

from typing import Final

from celery import Celery

from worker.core.handlers import HandlerSpec, Registry
from worker.doorbell import SEQUENCE_TASK, run_task
from worker.runtime import process
from worker.runtime.fitness import fit_to_run, goes_aside
from worker.runtime.runner import Runner
from worker.runtime.sequencer import Sequencer

# Seconds over a handler's time limit after which the pool (prefork) kills the process: a call that a signal does not
# interrupt, because it is in C code or catches everything, would keep it for ever. A run takes its time slice, one call
# and a few commands; its lanes are other processes' long before.
HARD_GRACE: Final = 10.0


def register(app: Celery, registry: Registry) -> None:
    """Register ``handoff.sequence`` and, for each handler, ``handoff.run.<handler>``. Each takes a partition."""
    app.task(name=SEQUENCE_TASK, shared=False)(_sequence)
    for spec in registry.values():
        limit = spec.timeout + HARD_GRACE
        app.task(name=run_task(spec.name), shared=False, time_limit=limit)(_run(spec))


def _sequence(partition: int) -> None:
    Sequencer(process.current(), partition).run()


def _run(spec: HandlerSpec) -> object:
    def run(partition: int) -> None:
        found = process.current()
        if not goes_aside(spec):
            Runner(found, spec, partition).run()
        elif fit_to_run(found, spec):
            found.side_runs.start((spec.name, partition), lambda: Runner(found, spec, partition))

    return run
