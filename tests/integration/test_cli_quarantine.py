"""`handoff quarantine list`: what could not be used, and why; never its content."""

from __future__ import annotations

import pytest

from tests.cli_kit import Installation, shape
from tests.store_kit import change

BAD_SEQ = b'{"id": "x", "seq": "1", "type": "t", "teamId": "acme"}'
BAD_ID = b'{"id": "", "seq": 2, "type": "t", "teamId": "beta"}'


@pytest.fixture
def filled(installation: Installation) -> Installation:
    """Four deliveries that can't be used: two are no JSON, one has a seq that is none, one an empty id."""
    installation.start("crm")
    installation.deliver("acme", b"secret words", BAD_SEQ)
    installation.deliver("beta", b"\xff", change("beta", 1), BAD_ID)
    return installation


def test_all_are_listed_with_their_reasons(filled: Installation) -> None:
    document = filled.run("quarantine", "list", "--json").json
    found = {(item["reason"], item["team"], item["size"]) for item in document["quarantine"]}
    assert found == {
        ("not_json", None, 12),
        ("bad_seq", "acme", len(BAD_SEQ)),
        ("not_utf8", None, 1),
        ("bad_id", "beta", len(BAD_ID)),
    }
    assert (document["total"], document["more"]) == (4, False)
    times = [item["at"] for item in document["quarantine"]]
    assert times == sorted(times, reverse=True)


def test_filters_and_limit(filled: Installation) -> None:
    def reasons(*arguments: str) -> list[str]:
        return [item["reason"] for item in filled.run("quarantine", "list", "--json", *arguments).json["quarantine"]]

    assert reasons("--reason", "not_json") == ["not_json"]
    assert reasons("--team", "acme") == ["bad_seq"]
    assert reasons("--older-than", "1h") == []
    assert len(reasons("--newer-than", "1h", "--limit", "3")) == 3


def test_the_shape_of_the_json_and_no_content(filled: Installation) -> None:
    ran = filled.run("quarantine", "list", "--json", "--team", "acme")
    texts, numbers = ("id", "reason", "detail", "team"), ("at", "size", "arrived")
    expected = dict.fromkeys(texts, "str") | dict.fromkeys(numbers, "int") | {"event_id": None}
    assert shape(ran.json) == {"total": "int", "more": "bool", "quarantine": [expected]}
    for arguments in (["--json"], []):
        assert "secret" not in filled.run("quarantine", "list", *arguments).out


def test_the_table_is_for_people(filled: Installation) -> None:
    ran = filled.run("quarantine", "list")
    assert ran.code == 0
    for word in ("not_json", "bad_seq", "acme", "seq is not an integer", "4 of 4 quarantined deliveries"):
        assert word in ran.out


def test_bodies_larger_than_a_page_are_read_a_few_at_a_time(installation: Installation) -> None:
    """Forty of 200 KB: more than one page, in either direction, and none is left out or doubled."""
    installation.start("crm")
    installation.deliver("acme", *[b"x" * 200_000 + str(number).encode() for number in range(40)])
    for arguments in ([], ["--oldest-first"]):
        document = installation.run("quarantine", "list", "--json", *arguments).json
        assert len({item["id"] for item in document["quarantine"]}) == len(document["quarantine"]) == 40


def test_an_id_of_ten_thousand_characters_is_one_row_and_whole_in_the_json(installation: Installation) -> None:
    installation.start("crm")
    installation.deliver("acme", b'{"id": "x", "seq": 1, "type": "t", "teamId": "%s"}' % (b"a" * 10_000))
    (item,) = installation.run("quarantine", "list", "--json").json["quarantine"]
    shown = installation.run("quarantine", "list").out
    assert "a" * 63 + "…" in shown
    assert "a" * 64 not in shown
    assert len(shown.splitlines()) < 8, shown
    assert item["team"] == "a" * 10_000
