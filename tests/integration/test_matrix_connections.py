"""Connections that break or lead nowhere, under a worker with a job in flight: a short part of ``make matrix``.

Each fault once, over the pools and kinds of server. tests/matrix has them all, and their whole lengths.
"""

from __future__ import annotations

import pytest

from tests.matrix.cell import run
from tests.servers import KINDS

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
CELLS = [("CLIENT KILL", "threads", 1.0), ("CLIENT KILL 8 times", "solo", 1.0), ("half-open", "prefork", 1.0)]


@pytest.mark.parametrize(("number", "fault", "pool", "share"), [(number, *cell) for number, cell in enumerate(CELLS)])
def test_it_works_again_or_leaves_and_nothing_is_lost(number: int, fault: str, pool: str, share: float) -> None:
    result = run(fault, pool, KINDS[number % len(KINDS)], share=share)
    assert result.kept(times=2), result
