"""``handoff replay`` as an operator runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_kit import Installation
from tests.store_kit import change, to
from worker.ops import acting, replaying
from worker.settings import Settings
from worker.store.actions import Done, recent


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


@pytest.mark.parametrize(("typed", "code", "routed"), [("n\n", 1, 0), ("y\n", 0, 3)])
def test_a_person_may_say_no(
    place: Installation, monkeypatch: pytest.MonkeyPatch, typed: str, code: int, routed: int
) -> None:
    monkeypatch.setattr(acting, "somebody_is_there", lambda: True)
    ran = place.run("replay", "--to", "new", "--team", "acme", typed=typed)
    assert ran.code == code
    assert ("Nothing was done." in ran.err) == (code == 1)
    assert place.of("acme").balanced("crm", "new").handlers["new"].routed == routed
    assert len(done_by_people(place)) == (code == 0)


def done_by_people(place: Installation) -> list[Done]:
    return list(recent(place.client, place.settings.prefix, 100))


def stop_at_the_first_step(place: Installation, monkeypatch: pytest.MonkeyPatch) -> Done:
    """What is on record of a replay that a person stopped."""
    whole = replaying.steps

    def stopped(*arguments: Any, **options: Any) -> Iterator[Any]:
        for step in whole(*arguments, **options):
            yield step
            if step.replayed:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(replaying, "steps", stopped)
        ran = place.run("replay", "--to", "new", "--yes")
    assert (ran.code, "Stopped after 3; go on with" in ran.err) == (1, True)
    (begun,) = done_by_people(place)
    return begun


def test_one_that_was_stopped_is_on_record_and_goes_on(place: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = stop_at_the_first_step(place, monkeypatch)
    assert (begun.what, begun.count, begun.args["unfinished"]) == ("replay", 3, True)
    ran = place.run("replay", "--resume", begun.args["id"], "--json")
    assert ran.json["replayed"] == 3
    ended, _ = done_by_people(place)
    assert (ended.args["id"], ended.count, "unfinished" in ended.args) == (begun.args["id"], 3, False)


def test_what_is_gone_on_with_is_what_was_asked_for(place: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run above all must not turn into a real one."""
    name = stop_at_the_first_step(place, monkeypatch).args["id"]
    for more in (["--dry-run"], ["--force"], ["--team", "acme"], ["--newer-than", "1h"]):
        ran = place.run("replay", "--resume", name, *more)
        assert (ran.code, "go with --to only" in ran.err) == (2, True)
    routed = [place.of(team).balanced("crm", "new").handlers["new"].routed for team in ("acme", "beta")]
    assert sum(routed) == 3


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
