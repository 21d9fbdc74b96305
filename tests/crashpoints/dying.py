"""Death inside the test's own process: from then on no command of the dead reaches the server.

A point raises ``Died``, which no ``except`` of the product's catches, and which each further command raises too: what
an ``except`` or ``finally`` would still do is undone by that, as SIGKILL would.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

import ingress
import worker.core
import worker.ops
import worker.runtime
import worker.store
from tests.crashpoints.patching import install


class Died(BaseException):
    """The process would be gone."""


Watch = Callable[[str, int], None]


class Life:
    """One process's. It dies when it comes to point ``death[0]`` for the ``death[1]``-th time. ``watch`` is called at
    every point; ``reached`` are all of them, in order."""

    waits = True

    def __init__(self, death: tuple[str, int] | None = None, watch: Watch | None = None) -> None:
        self.reached: list[tuple[str, int]] = []
        self.dead = False
        self._death = death
        self._watch = watch
        self._counts: Counter[str] = Counter()

    def arrive(self, point: str, args: tuple[Any, ...]) -> bool:
        self.check()
        self._counts[point] += 1
        here = point, self._counts[point]
        self.reached.append(here)
        if self._watch is not None:
            self._watch(*here)
        return here == self._death

    def die(self) -> NoReturn:
        self.dead = True
        raise Died

    def check(self) -> None:
        if self.dead:
            raise Died

    @contextmanager
    def lived(self) -> Iterator[None]:
        """What runs here is this life; its end is no error."""
        _load_everything()
        restore = install(self)
        try:
            yield
        except Died:
            pass
        finally:
            restore()


@cache
def _load_everything() -> None:
    """A module that were imported during a life would keep that life's functions for ever."""
    for package in (worker.core, worker.store, worker.runtime, worker.ops, ingress):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
