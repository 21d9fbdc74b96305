"""Our processes load nothing that they do not use, keep one heap, and give large blocks back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything")

HEAPS = """
import ctypes, sys, threading
if {frugal}:
    from worker.runtime.allocator import be_frugal
    be_frugal()
together, kept = threading.Barrier(5), []
def work():
    kept.append([bytes(1000) for _ in range(100)])
    together.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
together.wait()
"""
BLOCKS = """
from pathlib import Path
if {frugal}:
    from worker.runtime.allocator import be_frugal
    be_frugal()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
bytearray(8_000_000)
before, between = resident(), []
blocks = []
for _ in range(50):
    blocks.append(bytearray(1_000_000))
    between.append(bytearray(100_000))
blocks.clear()
print(resident() - before)
"""


def said(code: str, **environment: str) -> str:
    run = [sys.executable, "-c", code]
    usual = {
        name: value for name, value in os.environ.items() if not name.startswith(("HANDOFF_", "MALLOC_", "GLIBC_"))
    }
    return subprocess.run(run, cwd=ROOT, env=usual | environment, capture_output=True, text=True, check=True).stdout


@GLIBC
def test_threads_share_one_heap() -> None:
    assert said(HEAPS.format(frugal=True)).count("<heap nr=") == 1
    assert said(HEAPS.format(frugal=False)).count("<heap nr=") > 1


@GLIBC
def test_large_blocks_are_given_back() -> None:
    """Even where small ones that stay were made between them."""
    assert int(said(BLOCKS.format(frugal=True))) < 10_000_000
    assert int(said(BLOCKS.format(frugal=False))) > 40_000_000


@pytest.mark.parametrize("module", ["worker.celery", "ingress.__main__"])
def test_process_loads_nothing_that_it_does_not_use(module: str) -> None:
    """rich and httpx are the command line's and some handlers'; test tools are nobody's at run time."""
    unwanted = ["rich", "httpx", "pytest", "hypothesis", "matplotlib"]
    code = f"import sys, {module}; print([name for name in {unwanted} if name in sys.modules])"
    assert said(code, HANDOFF_HANDLERS="worker.handlers.log") == "[]\n"


def test_rich_is_there_for_whoever_wants_it() -> None:
    assert said("import worker.lean, rich, structlog; print(structlog.dev.rich, rich.__name__)") == "None rich\n"


def test_what_is_loaded_is_kept_out_of_the_collectors_way_before_a_fork() -> None:
    """Else it would write to the pages that the processes share."""
    code = (
        "import gc, worker.celery; from celery.signals import worker_before_create_process as fork;"
        "fork.send(sender=None); print(gc.get_freeze_count() > 10_000)"
    )
    assert said(code, HANDOFF_HANDLERS="worker.handlers.log") == "True\n"
