"""A child that asks for it by its exit code is started again; any other end is told."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from worker.ops import supervisor
from worker.ops.supervisor import Supervisor

ENDS = """
import pathlib, sys
runs = pathlib.Path(sys.argv[1])
with runs.open("a") as file: file.write("x")
code = [75, 75, int(sys.argv[2])][len(runs.read_text()) - 1]
print("run", len(runs.read_text()), flush=True)
sys.exit(code)
"""
WAITS = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("up", flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "AGAIN", 0.0)


@pytest.mark.parametrize("code", [0, 1])
def test_a_child_is_started_again_as_often_as_it_asks(tmp_path: Path, code: int) -> None:
    lines: list[str] = []

    async def run() -> supervisor.Ended:
        async with Supervisor(lambda name, line: lines.append(line)) as found:
            command = [sys.executable, "-c", ENDS, str(tmp_path / "runs"), str(code)]
            await found.start("worker", command, os.environ, again={75})
            return await found.ended

    ended = asyncio.run(run())
    assert (ended.name, ended.returncode, ended.last_line) == ("worker", code, "run 3")
    again = "ended with exit code 75: started again"
    assert lines == ["run 1", again, "run 2", again, "run 3"]


def test_one_that_is_stopped_is_not() -> None:
    lines: list[str] = []

    async def run() -> None:
        up = asyncio.Event()

        def note(_name: str, line: str) -> None:
            lines.append(line)
            up.set()

        async with Supervisor(note) as found:
            await found.start("worker", [sys.executable, "-c", WAITS], os.environ, again={75})
            await up.wait()
            await found.stop("worker")
            assert not found.ended.done()

    asyncio.run(run())
    assert lines == ["up"]
