"""A server that refuses, and queues with what is no doorbell: a short part of ``make matrix``.

Each fault once, over the pools and kinds of server. tests/matrix has them all, and their whole lengths.
"""

from __future__ import annotations

import pytest

from tests.matrix.cell import run
from tests.servers import KINDS

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
CELLS = [
    ("READONLY", "threads", KINDS[0], 0.4),
    ("out of memory", "prefork", KINDS[-1], 0.4),
    ("poison", "prefork", KINDS[0], 0.5),
    # What takes a bell from its queue is the worker's main process, whatever the pool.
    pytest.param("poison", "threads", KINDS[-1], 0.5, marks=pytest.mark.long),
    pytest.param("poison", "solo", KINDS[0], 0.5, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("fault", "pool", "kind", "share"), CELLS)
def test_it_works_again_or_leaves_and_nothing_is_lost(fault: str, pool: str, kind: str, share: float) -> None:
    result = run(fault, pool, kind, share=share)
    assert result.kept(times=2), result
