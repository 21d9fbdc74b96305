"""`handoff lanes list | pause | resume | unblock`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli_kit import Installation, shape
from tests.store_kit import Route, change
from worker.core.dispatch import Terms
from worker.store import actions
from worker.store.lanes import Action, Attempt

FAILED = [Attempt(number, 1, "app.Down", "secret text") for number in (1, 2)]


def by_prospect(*_: object) -> list[Terms]:
    return [Terms("crm", "prospect")]


BY_PROSPECT: Route = by_prospect


@pytest.fixture
def busy(installation: Installation) -> Installation:
    """Of crm: acme is blocked, beta backs off, gamma waits with two jobs."""
    installation.start("crm", "mail")
    installation.deliver("acme", change("acme", 1), change("acme", 2))
    installation.settle("acme", action=Action.BLOCK, attempts=2, failed=FAILED, error="app.Down")
    installation.deliver("beta", change("beta", 1))
    installation.settle("beta", action=Action.RETRY, attempts=1, failed=FAILED[:1], delay_ms=3_600_000)
    installation.deliver("gamma", change("gamma", 1), change("gamma", 2))
    return installation


def listed(installation: Installation, *arguments: str) -> list[tuple[str, str]]:
    ran = installation.run("lanes", "list", "--json", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return [(lane["lane"], lane["state"]) for lane in ran.json["lanes"]]


def what_was_done(installation: Installation) -> list[tuple[str, int]]:
    done = actions.recent(installation.client, installation.settings.prefix, 9)
    return [(one.what, one.count) for one in reversed(done)]


def test_those_that_need_a_person_come_first(busy: Installation) -> None:
    busy.run("lanes", "pause", "mail", "delta")
    assert listed(busy) == [("acme", "blocked"), ("delta", "paused"), ("beta", "backing off"), ("gamma", "due")]
    assert busy.run("lanes", "list", "--limit", "2", "--json").json["more"] is True
    out = busy.run("lanes", "list").out
    assert "secret" not in out
    (row,) = [line.split() for line in out.splitlines() if "acme" in line]
    assert row[:3] == ["crm", "acme", "2"]
    assert row[-2:] == ["2", "app.Down"]
    assert " ago by " in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--blocked"], ["acme"]),
        (["--paused"], []),
        (["--troubled"], ["acme", "beta"]),
        (["--team", "beta"], ["beta"]),
        (["--team", "beta", "--troubled"], ["beta"]),
        (["--team", "gamma", "--troubled"], []),
        (["--handler", "crm"], ["acme", "beta", "gamma"]),
        (["--handler", "mail"], []),
    ],
)
def test_filters(busy: Installation, arguments: list[str], expected: list[str]) -> None:
    assert [lane for lane, _ in listed(busy, *arguments)] == expected


def test_the_shape_of_the_json(busy: Installation) -> None:
    document: Any = busy.run("lanes", "list", "--blocked", "--json").json
    words = dict.fromkeys(("handler", "lane", "team", "state", "error"), "str")
    numbers = dict.fromkeys(("partition", "waiting", "oldest", "attempts"), "int")
    blocked = {"why": "str", "at": "int", "by": "str"}
    assert shape(document) == {"more": "bool", "lanes": [words | numbers | {"due": None, "blocked": blocked}]}


def test_a_lane_is_paused_and_resumed(busy: Installation) -> None:
    assert busy.run("lanes", "pause", "crm", "gamma").out == "1 of 1 lane paused.\n"
    assert "1 paused or blocked before" in busy.run("lanes", "pause", "crm", "gamma").out
    assert listed(busy, "--paused") == [("gamma", "paused")]
    claim = busy.of("gamma").lanes().claim(lanes=9, jobs=9, per_lane=9)
    assert "gamma" not in {lane.lane for lane in claim.lanes}
    assert busy.run("lanes", "resume", "crm", "gamma").code == 0
    ran = busy.run("lanes", "resume", "crm", "gamma")
    assert (ran.code, "1 not paused" in ran.out) == (1, True)
    assert listed(busy, "--paused") == []
    assert [what for what, count in what_was_done(busy) if count] == ["lanes pause", "lanes resume"]
    assert "gamma" in {lane.lane for lane in busy.of("gamma").lanes().claim(lanes=9, jobs=9, per_lane=9).lanes}


def test_all_lanes_of_a_team_are_paused_after_a_question(busy: Installation) -> None:
    busy.deliver("zeta", *(change("zeta", seq, prospect=f"p{seq}") for seq in (1, 2)), route=BY_PROSPECT)
    refused = busy.run("lanes", "pause", "crm", "--team", "zeta")
    assert (refused.code, refused.out) == (2, "")
    assert "3 lanes to pause, and nobody to ask" in refused.err
    assert busy.run("lanes", "pause", "crm", "--team", "zeta", "--dry-run", "--json").json["matched"] == 3
    assert busy.run("lanes", "pause", "crm", "--team", "zeta", "--yes").code == 0
    expected = [("zeta", "paused"), ("zeta:p1", "paused"), ("zeta:p2", "paused")]
    assert sorted(listed(busy, "--team", "zeta")) == sorted(listed(busy, "--paused")) == expected
    assert busy.run("lanes", "resume", "crm", "--all", "--yes", "--json").json["freed"] == 3
    assert listed(busy, "--paused") == []


def test_a_blocked_lane_is_unblocked_or_its_first_job_given_up(busy: Installation) -> None:
    ran = busy.run("lanes", "resume", "crm", "acme")
    assert (ran.code, "handoff lanes unblock" in ran.out) == (1, True)
    assert busy.run("lanes", "unblock", "crm", "acme").code == 0
    assert ("acme", "due") in listed(busy)
    busy.settle("acme", action=Action.BLOCK, attempts=2, failed=FAILED, error="app.Down")
    assert busy.run("lanes", "unblock", "crm", "--error", "Other", "--yes", "--json").json["matched"] == 0
    ran = busy.run("lanes", "unblock", "crm", "--error", "Down", "--give-up", "--yes")
    assert (ran.code, ran.out) == (0, "1 of 1 lane unblocked: the first job is a dead letter.\n")
    assert busy.of("acme").seqs_in("crm", "acme") == [2]
    (letter,) = busy.run("dead", "list", "--json").json["dead"]
    assert (letter["seq"], letter["error"], letter["attempts"]) == (1, "app.Down", 2)
    busy.of("acme").balanced()


def test_a_handler_that_nobody_has_is_wrong_usage(busy: Installation) -> None:
    for verb in ("pause", "resume", "unblock"):
        ran = busy.run("lanes", verb, "cmr", "acme")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == "Error: HANDLER: no worker announced a handler 'cmr' (there is: crm, mail)\n"
        assert "say which" in busy.run("lanes", verb, "crm").err


def test_none_is_said_so(installation: Installation) -> None:
    installation.start("crm")
    assert installation.run("lanes", "list").out == "No lane matches.\n"
