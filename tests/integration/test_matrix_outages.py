"""A server that goes away and comes back, and a worker with a job in flight: a short part of ``make matrix``.

Each fault once, over the pools and kinds of server. tests/matrix has them all, and their whole lengths.
"""

from __future__ import annotations

import pytest

from tests.matrix.cell import run
from tests.servers import KINDS

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
CELLS = [("killed for 3 s", "prefork", 1.0), ("killed for 20 s", "threads", 0.3), ("stopped for 15 s", "solo", 0.4)]


@pytest.mark.parametrize(("number", "fault", "pool", "share"), [(number, *cell) for number, cell in enumerate(CELLS)])
def test_it_works_again_or_leaves_and_nothing_is_lost(number: int, fault: str, pool: str, share: float) -> None:
    result = run(fault, pool, KINDS[number % len(KINDS)], share=share)
    assert result.kept(times=2), result
