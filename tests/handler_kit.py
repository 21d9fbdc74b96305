"""Handlers that come with Handoff, imported for one test with settings of its own, and gone after it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import patch

import worker.handlers
from worker import api
from worker.settings import variables


@contextmanager
def importing(**environment: str) -> Iterator[None]:
    """Within it, modules of ``worker.handlers`` are imported anew, with these variables beside what is set, and define
    their handlers in a registry of their own."""
    before = _take_away()
    try:
        with (
            patch.dict(os.environ, environment),
            patch.dict(vars(worker.handlers)),
            patch.dict(api._registry, clear=True),
        ):
            variables.cache_clear()
            yield
    finally:
        variables.cache_clear()
        _take_away()
        sys.modules.update(before)


def _take_away() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.startswith("worker.handlers.")]
    return {name: sys.modules.pop(name) for name in names}


@contextmanager
def loaded(name: str, **environment: str) -> Iterator[ModuleType]:
    """The module ``worker.handlers.NAME``, imported as above."""
    with importing(**environment):
        yield importlib.import_module(f"worker.handlers.{name}")
