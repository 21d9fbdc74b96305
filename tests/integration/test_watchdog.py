"""Workers that have gone deaf, made so from outside: each is noticed, says so, leaves, and nothing of its work is lost.

Their processes live and answer Celery's ping. tests/matrix/deaf.py says how their hearing is taken.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import cli_kit
from tests.cli_kit import Ran
from tests.matrix import rig as rigs
from tests.matrix.rig import DEADLINE, Rig
from tests.processes import until
from worker.core.liveness import EXIT_DEAF

pytestmark = pytest.mark.timeout(300)
AFTER = 6  # seconds


@contextmanager
def rig(folder: Path, pool: str, **more: str) -> Iterator[Rig]:
    settings = {"HANDOFF_HANDLERS": "tests.matrix.deaf", "HANDOFF_DEAF_AFTER": f"{AFTER}s"}
    with rigs.running("valkey", pool, folder, **settings, **more) as found:
        yield found


@pytest.mark.parametrize(
    ("how", "pool", "condition"),
    [
        ("deaf", "prefork", "deaf"),
        pytest.param("leak", "threads", "deaf", marks=pytest.mark.long),
        ("stuck", "prefork", "stuck"),
        ("unswept", "solo", "unswept"),
    ],
)
def test_it_says_so_and_leaves_for_its_supervisor(tmp_path: Path, how: str, pool: str, condition: str) -> None:
    with rig(tmp_path, pool) as found:
        deaf = found.workers[0]
        found.deafen(how)
        assert deaf.wait(DEADLINE) == EXIT_DEAF, deaf.output[-2000:]
        (line,) = [text for text in deaf.output.splitlines() if f'"worker_{condition}"' in text]
        told = json.loads(line)
        assert told["leaving"] is True
        assert told["received"] > 0
        found.deafen("")
        found.start_worker()
        found.feeder.stop()
        found.wait_until_done()
        found.check()


def test_where_nobody_leaves_it_stays_silent_and_the_probe_knows_what_a_ping_does_not(tmp_path: Path) -> None:
    with rig(tmp_path, "prefork", MATRIX_STAYS="1") as found:
        silent = found.workers[0]
        until(lambda: doctor(found)[0] == 0, "the worker beats", DEADLINE, pause=0.1)
        found.deafen("deaf")
        until(lambda: doctor(found) == (1, "deaf"), "the probe says that it is deaf", DEADLINE, pause=0.2)
        done = len(found.calls())
        ping = found.run(sys.executable, "-m", "celery", "-A", "worker", "inspect", "ping", "--timeout", "5")
        assert "pong" in ping.stdout, ping.stderr
        assert doctor(found) == (1, "deaf")
        assert silent.running
        assert len(found.calls()) == done
        status = handoff(found, "status", "--json").json
        assert [worker["state"] for worker in status["workers"]] == ["deaf"]
        assert any("is deaf for" in problem for problem in status["problems"])


def doctor(found: Rig) -> tuple[int, str]:
    """Its exit code, and the first word of what it found."""
    ran = handoff(found, "doctor", "--worker", "--json")
    return ran.code, ran.json["findings"][0]["what"].split(" ")[0].rstrip(":")


def handoff(found: Rig, *words: str) -> Ran:
    return cli_kit.run(*words, folder=found.folder, HANDOFF_REDIS_URL=found.server.url)
