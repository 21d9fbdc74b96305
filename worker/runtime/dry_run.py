"""A handler that shows what it would be called with, and is not called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from worker.api import BatchContext, Context, Discard
from worker.core.events import AssigneeChange, Event
from worker.core.handlers import HandlerSpec

Subject = AssigneeChange | Event


def dry(spec: HandlerSpec) -> HandlerSpec:
    """``spec`` with a function that logs each change and discards its job. Order, rate and filters hold as ever."""

    def show(subject: Subject) -> None:
        event = subject if isinstance(subject, Event) else subject.event
        structlog.get_logger(spec.name).info(
            "dry_run",
            handler=spec.name,
            team_id=event.team_id,
            event_id=event.id,
            would=repr(subject) if spec.preview is None else spec.preview(subject),
        )

    def one(subject: Subject, ctx: Context) -> None:  # noqa: ARG001 - what a handler is called with
        show(subject)
        raise Discard("dry run")

    def many(subjects: Sequence[Subject], ctx: BatchContext) -> list[Any]:  # noqa: ARG001 - as above
        for subject in subjects:
            show(subject)
        return [Discard("dry run")] * len(subjects)

    shown = one if spec.batch is None else many
    if not spec.is_async:
        return replace(spec, function=shown, dry_run=True)

    async def later(subject: Any, ctx: Any) -> Any:
        return shown(subject, ctx)

    return replace(spec, function=later, dry_run=True)
