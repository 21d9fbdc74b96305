"""``handoff replay`` as an operator runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli_kit import Installation
from tests.store_kit import change, to
from worker.settings import Settings


@pytest.fixture
def place(any_server_url: str, prefix: str, tmp_path: Path) -> Installation:
    """Two teams' changes, done by crm; and a handler that has come since."""
    made = Installation(Settings(redis_url=any_server_url, prefix=prefix, partitions=4), tmp_path)
    made.start("crm", "new")
    for team in ("acme", "beta"):
        made.deliver(team, *(change(team, seq, prospect=f"p{seq}") for seq in (1, 2, 3)), route=to("crm"))
        for _ in range(3):
            made.settle(team, done=1)
    return made


def test_a_dry_run_counts_and_a_real_one_asks(place: Installation) -> None:
    ran = place.run("replay", "--to", "new", "--dry-run")
    assert (ran.code, ran.out) == (0, "Would replay 6 events of 6 in the archive.\n")
    ran = place.run("replay", "--to", "new")
    assert ran.code == 2
    assert "there is nobody to ask: say --yes" in ran.err
    assert place.of("acme").balanced("crm", "new").handlers["new"].routed == 0


def test_a_replay_fills_a_handler_and_is_on_record(place: Installation) -> None:
    ran = place.run("replay", "--to", "new", "--team", "acme", "--yes", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["replayed"], ran.json["skipped"]["other"]) == (3, 3)
    assert place.of("acme").seqs_in("new", "acme") == [1, 2, 3]
    ((_, record),) = place.client.xrange(f"{place.settings.prefix}:actions")
    told = dict(zip(record[::2], record[1::2], strict=True)) if isinstance(record, list) else record
    assert (told[b"what"], told[b"count"]) == (b"replay", b"3")
    assert b'"team":"acme"' in told[b"args"]
    assert place.run("replay", "--list").out == "No replay is unfinished.\n"
    assert place.run("replay", "--to", "new", "--team", "acme", "--dry-run").code == 1


def test_filters(place: Installation) -> None:
    def counted(*arguments: str) -> int:
        return int(place.run("replay", "--to", "new", "--dry-run", "--json", *arguments).json["replayed"])

    assert counted("--prospect", "p2") == 2
    assert counted("--type", "message.*") == 0
    assert counted("--newer-than", "1h") == 6
    assert counted("--older-than", "1h") == 0


def test_mistakes_are_told_in_a_line(place: Installation) -> None:
    ran = place.run("replay", "--to", "nobody", "--yes")
    assert (ran.code, ran.out) == (2, "")
    assert "no worker announced a handler 'nobody'" in ran.err
    assert "there is: crm, new" in ran.err
    assert place.run("replay").code == 2
    assert "there is no replay x" in place.run("replay", "--resume", "x").err
