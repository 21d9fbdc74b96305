"""The other tests call the commands in their own process: here each answers as a process of its own does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli_kit import READING, Installation, run, run_process, shape
from tests.store_kit import PATIENT, change

NOWHERE = "redis://127.0.0.1:1/0"


REPLAY = ["replay", "--to", "crm", "--dry-run"]


@pytest.mark.parametrize("command", [*READING, ["explain", "acme-1"], REPLAY], ids=" ".join)
def test_a_process_answers_the_same(command: list[str], installation: Installation) -> None:
    """Every import that a command needs is its own, and what it prints does not depend on who calls it."""
    installation.start("crm")
    installation.deliver("acme", *[change("acme", seq) for seq in (1, 2)], b"not json")
    installation.bury("acme")
    installation.deliver("beta", change("beta", 5), policy=PATIENT)
    there = installation.run_process(*command, "--json")
    here = installation.run(*command, "--json")
    assert (there.code, shape(there.json), there.err) == (here.code, shape(here.json), here.err)


def test_a_process_fails_the_same(tmp_path: Path) -> None:
    there = run_process("status", folder=tmp_path, HANDOFF_REDIS_URL=NOWHERE)
    assert there.code == 2
    assert there == run("status", folder=tmp_path, HANDOFF_REDIS_URL=NOWHERE)
    assert run_process("dead", "list", "--limit", "x", folder=tmp_path) == run(
        "dead", "list", "--limit", "x", folder=tmp_path
    )
