"""The handlers of ``tests.bench.stamps`` in a worker that says what it does (``tests.bench.steps``)."""

from __future__ import annotations

from tests.bench import stamps, steps

steps.install(steps.WORKER)
__all__ = ("stamps",)
