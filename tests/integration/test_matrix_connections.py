"""Connections that break or lead nowhere, under a worker with a job in flight: a short part of ``make matrix``.

Each fault once, over the pools and kinds of server. tests/matrix has them all, and their whole lengths.
"""

from __future__ import annotations

import pytest

from tests.matrix.cell import run
from tests.servers import KINDS

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
CELLS = [
    pytest.param("CLIENT KILL", "threads", KINDS[0], 1.0, marks=pytest.mark.long),
    ("CLIENT KILL 8 times", "solo", KINDS[-1], 1.0),
    ("half-open", "prefork", KINDS[0], 0.5),
]


@pytest.mark.parametrize(("fault", "pool", "kind", "share"), CELLS)
def test_it_works_again_or_leaves_and_nothing_is_lost(fault: str, pool: str, kind: str, share: float) -> None:
    result = run(fault, pool, kind, share=share)
    assert result.kept(times=2), result
