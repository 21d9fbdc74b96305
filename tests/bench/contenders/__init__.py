"""The ways of doing the same work, one file each. See ``tests.bench.arena.Contender``."""

from __future__ import annotations

from tests.bench.arena import Contender
from tests.bench.contenders.bare import Bare
from tests.bench.contenders.celery_tasks import CeleryTasks
from tests.bench.contenders.handoff import Handoff
from tests.bench.contenders.handoff_http import HandoffHTTP
from tests.bench.contenders.node import NodeQueue

YARDSTICK = "handoff-async"
"""Whose rate the others are compared with."""

CONTENDERS: tuple[Contender, ...] = (
    Handoff("handoff-async", "Handoff, async handler", "tests.bench.pipelined", "append"),
    Handoff("handoff-plain", "Handoff, plain handler", "tests.bench.handlers", "append"),
    Handoff("handoff-batch", "Handoff, batch handler", "tests.bench.batched", "append"),
    Handoff("handoff-noop", "Handoff, handler does nothing", "tests.bench.noop", "noop", traces=False),
    HandoffHTTP("handoff-http", "Handoff from HTTP, batch handler", "tests.bench.batched", "append"),
    CeleryTasks("celery-ordered", "Celery, ordered by hand", "bench.in_order", tuned=False),
    CeleryTasks("celery-ordered-tuned", "Celery, ordered by hand, our transport", "bench.in_order", tuned=True),
    CeleryTasks("celery", "Celery, a task an event", "bench.as_it_comes", tuned=False, orders=False),
    CeleryTasks(
        "celery-tuned", "Celery, a task an event, our transport", "bench.as_it_comes", tuned=True, orders=False
    ),
    Bare(),
    NodeQueue("groupmq", "GroupMQ", "a group a team; dedup and order happen while adding, outside the clock"),
    NodeQueue("bullmq", "BullMQ", "no order; dedup happens while adding, outside the clock"),
)
