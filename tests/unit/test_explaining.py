"""Why a job is still waiting, in words."""

from __future__ import annotations

import pytest

from worker.core.jobs import Job
from worker.ops.explaining import HandlerStory, reason
from worker.store.control import Control
from worker.store.trace import Waiting

DUE = 1_700_000_000_000


@pytest.mark.parametrize(
    ("late", "batch_wait_ms", "text"),
    [
        (4000, 5000, "its batch fills for another 1s at most"),
        (6000, 5000, "its lane has been due for 6s and no worker took it"),
        (4000, 0, "its lane has been due for 4s and no worker took it"),
        (500, 0, "its lane is due now"),
    ],
)
def test_a_batch_that_fills_is_told_apart_from_a_lane_that_nobody_takes(
    late: int, batch_wait_ms: int, text: str
) -> None:
    job = Job("1-0", shared=False, size=1, seq=1, late=False, change=None)
    waiting = Waiting("acme", job, 0, 1, job, "e1", (), claimed=False, due=DUE, blocked=None)
    story = HandlerStory("crm", True, Control(DUE + late), waiting, batch_wait_ms=batch_wait_ms)
    assert reason(story, DUE + late) == text
