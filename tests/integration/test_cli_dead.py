"""`handoff dead list`: ids, times, sizes and error classes of what was given up; no bodies, and no texts unasked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli_kit import Installation, shape
from tests.store_kit import change, to
from worker.store.keys import partition_of


@pytest.fixture
def buried(installation: Installation) -> Installation:
    """Five dead letters in three partitions, in this order: acme 1 (crm), beta 1 (mail), acme 2, gamma 1, gamma 2."""
    installation.start("crm", "mail")
    assert len({partition_of(team, 4) for team in ("acme", "beta", "gamma")}) > 1
    installation.deliver("acme", *[change("acme", seq, prospect="secret-bio") for seq in (1, 2)])
    installation.deliver("beta", change("beta", 1), route=to("mail"))
    installation.deliver("gamma", *[change("gamma", seq) for seq in (1, 2, 3)])
    installation.bury("acme")
    installation.bury("beta", "mail", error="smtplib.SMTPDataError")
    installation.bury("acme")
    installation.bury("gamma", error="TimeoutError", text="")
    installation.bury("gamma")
    return installation


def listed(installation: Installation, *arguments: str) -> list[tuple[str, int]]:
    ran = installation.run("dead", "list", "--json", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return [(letter["team"], letter["seq"]) for letter in ran.json["dead"]]


EVERY = [("acme", 1), ("beta", 1), ("acme", 2), ("gamma", 1), ("gamma", 2)]


def test_partitions_are_merged_by_time(buried: Installation) -> None:
    times = [letter["at"] for letter in buried.run("dead", "list", "--json").json["dead"]]
    assert times == sorted(times, reverse=True)
    assert sorted(listed(buried)) == sorted(EVERY)
    oldest = buried.run("dead", "list", "--json", "--oldest-first").json["dead"]
    assert [letter["at"] for letter in oldest] == sorted(times)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--handler", "mail"], [("beta", 1)]),
        (["--handler", "nobody"], []),
        (["--team", "acme"], [("acme", 1), ("acme", 2)]),
        (["--error", "SMTPDataError"], [("beta", 1)]),
        (["--error", "smtplib.SMTPDataError"], [("beta", 1)]),
        (["--error", "TimeoutError", "--team", "gamma"], [("gamma", 1)]),
        (["--older-than", "1h"], []),
        (["--newer-than", "1h"], EVERY),
    ],
)
def test_filters(buried: Installation, arguments: list[str], expected: list[tuple[str, int]]) -> None:
    assert sorted(listed(buried, *arguments)) == sorted(expected)


def test_the_limit_says_that_there_are_more(buried: Installation) -> None:
    document = buried.run("dead", "list", "--json", "--limit", "2").json
    assert (len(document["dead"]), document["more"], document["total"]) == (2, True, 5)
    assert buried.run("dead", "list", "--json", "--limit", "5").json["more"] is False
    assert "2 of 5 dead letters; there are more" in buried.run("dead", "list", "--limit", "2").out


def test_the_table_is_for_people(buried: Installation) -> None:
    ran = buried.run("dead", "list", "--team", "beta")
    (row,) = [line.split() for line in ran.out.splitlines() if "beta" in line]
    assert row[0].startswith(f"{partition_of('beta', 4)}:")
    assert row[2:5] == ["mail", "beta", "1"]
    assert "smtplib.SMTPDataError" in row
    assert "1 of 5 dead letters" in ran.out


def test_the_shape_of_the_json(buried: Installation) -> None:
    document: Any = buried.run("dead", "list", "--json", "--show-text").json
    letter = {"id", "handler", "team", "lane", "event_id", "type", "error", "text"}
    numbers = {"at", "seq", "attempts", "size", "arrived"}
    expected = dict.fromkeys(letter, "str") | dict.fromkeys(numbers, "int") | {"late": "bool"}
    assert shape(document) == {"total": "int", "more": "bool", "dead": [expected]}


def test_bodies_are_never_shown_and_texts_only_when_asked_for(buried: Installation) -> None:
    for arguments in (["--json"], []):
        ran = buried.run("dead", "list", *arguments)
        assert "secret" not in ran.out
        asked = buried.run("dead", "list", "--show-text", *arguments)
        assert "secret text" in asked.out
        assert "secret-bio" not in asked.out


def test_a_dead_letter_whose_body_was_lost_is_listed(installation: Installation) -> None:
    installation.start("crm")
    installation.deliver("acme", change("acme", 7))
    partition = installation.of("acme")
    installation.client.xtrim(partition.keys.inbox, maxlen=0)
    installation.bury("acme", error="BodyLost")
    (letter,) = installation.run("dead", "list", "--json", "--team", "acme").json["dead"]
    assert (letter["event_id"], letter["size"], letter["seq"], letter["team"]) == (None, 0, 7, "acme")
    assert "BodyLost" in installation.run("dead", "list").out


def test_what_a_terminal_would_obey_is_not_printed(installation: Installation) -> None:
    team = "\x1b[31mred[/]"
    installation.start("crm")
    installation.deliver(team, change(team, 1))
    installation.bury(team, error="[bold]E")
    ran = installation.run("dead", "list")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "[31mred[/]" in ran.out
    assert "[bold]E" in ran.out


def test_none_is_said_so(installation: Installation) -> None:
    installation.start("crm")
    assert installation.run("dead", "list").out == "No dead letters.\n"
    installation.deliver("acme", change("acme", 1))
    installation.bury("acme")
    assert installation.run("dead", "list", "--handler", "mail").out == "None of 1 dead letter matches.\n"


def test_a_duration_that_is_none_is_wrong_usage(installation: Installation) -> None:
    ran = installation.run("dead", "list", "--older-than", "soon")
    assert ran.code == 2
    assert "must be a duration" in ran.err
