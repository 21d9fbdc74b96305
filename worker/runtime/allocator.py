"""How this process asks the C library for memory, and gives it back. Only glibc is told; others are left as they are.

glibc gives each thread a heap of its own, against threads that wait for each other; here they have waited for the
interpreter already. A busy worker process had seven, with 17 MB in them. And it learns from the first large body that
is freed to keep such blocks for itself: after bodies of 1 MB a process stayed at twice its size.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any, Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Of mallopt(3)."""

# Either of them ends its learning. Measured: no more CPU an event than without them.
LARGE: Final = 256 * 1024  # bytes; such a block is the kernel's again as soon as it is free
SPARE: Final = 8 * 1024 * 1024  # bytes that may stay free at a heap's end: a batch comes and goes with every turn


def be_frugal() -> None:
    """Before any thread is started. Forked processes inherit it."""
    try:
        mallopt: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, SPARE)


def keep_shared(**_: Any) -> None:
    """Before a fork: what is loaded by now stays. To look through it for garbage would write to all of it, and each
    process would get a copy of what they can share."""
    gc.collect()
    gc.freeze()
