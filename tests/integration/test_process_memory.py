"""A process of ours stays as small as is promised, and gives back what large bodies took."""

from __future__ import annotations

import pytest

from tests.bench.sections.processes import MEBI, after, enlarged
from tests.bench.workload import Workload

WORKER, INGRESS = 80, 70  # MiB
PEAK = 60  # MiB more, while bodies of 1 MB go through: a batch of 4 MB, as bytes, as text and as what is parsed
WORK = Workload.w1(1, 2000)


@pytest.mark.parametrize("large", [False, True], ids=["usual bodies", "large bodies"])
def test_processes_stay_small(large: bool) -> None:
    """After the work, whatever its bodies; a worker's while it goes on, too."""
    found = after(enlarged(WORK) if large else WORK)
    workers = [size for name, size in found.items() if name != "ingress"]
    assert len(workers) == 3
    assert max(one.rss for one in workers) <= WORKER * MEBI, found
    assert max(one.peak for one in workers) <= (WORKER + PEAK * large) * MEBI, found
    assert large or found["ingress"].peak <= INGRESS * MEBI, found
