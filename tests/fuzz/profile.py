"""How hard the fuzzers try. Said at each test, for the profile of another folder may be loaded last."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))  # of every test; 0: as many as are quick


def examples(quick: int) -> settings:
    """``quick`` of them in the test suite; as many as ``make fuzz`` says in there.

    Nothing is derandomized: each run looks elsewhere, and a failure prints the line that repeats it.
    """
    return settings(
        max_examples=EXAMPLES or quick,
        deadline=None,
        derandomize=False,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
