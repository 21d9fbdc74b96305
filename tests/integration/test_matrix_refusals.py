"""A server that refuses, and queues with what is no doorbell: a short part of ``make matrix``.

Each fault once, over the pools and kinds of server. tests/matrix has them all, and their whole lengths.
"""

from __future__ import annotations

import pytest

from tests.matrix.cell import POOLS, run
from tests.servers import KINDS

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
CELLS = [("READONLY", "threads", 0.4), ("out of memory", "prefork", 0.4), *(("poison", pool, 0.5) for pool in POOLS)]


@pytest.mark.parametrize(("number", "fault", "pool", "share"), [(number, *cell) for number, cell in enumerate(CELLS)])
def test_it_works_again_or_leaves_and_nothing_is_lost(number: int, fault: str, pool: str, share: float) -> None:
    result = run(fault, pool, KINDS[number % len(KINDS)], share=share)
    assert result.kept(times=2), result
