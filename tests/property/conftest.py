"""How hard Hypothesis tries: ``HYPOTHESIS_PROFILE=thorough`` for a long look, ``quick`` (the default) for every run.

A failing example is printed with the line that repeats it (``@reproduce_failure``), so a failure is never lost.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=100, deadline=None, print_blob=True, database=None)
settings.register_profile(
    "thorough",
    settings.get_profile("quick"),
    max_examples=3000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
