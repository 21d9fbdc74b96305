"""How hard the fuzzers try. Said at each test, for the profile of another folder may be loaded last."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))  # of a test that has 200 in the suite; 0: as in the suite


def examples(quick: int) -> settings:
    """``quick`` of them in the test suite; in ``make fuzz`` as many times more for each test.

    Nothing is derandomized: each run looks elsewhere, and a failure prints the line that repeats it.
    """
    return settings(
        max_examples=max(1, quick * EXAMPLES // 200) if EXAMPLES else quick,
        deadline=None,
        derandomize=False,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
