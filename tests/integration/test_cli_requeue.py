"""`handoff quarantine show | retry | drop`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.cli_kit import Installation, shape
from tests.store_kit import AT_ONCE, change
from worker.store import actions

OLD = replace(AT_ONCE, dedup_window_ms=1000)
"""Everything below the watermark is too old: the kit's events are of a fixed day."""


@pytest.fixture
def odd(installation: Installation) -> Installation:
    """acme 1 is too old, beta's URL got what is no JSON, gamma 1 met a fault that is mended by now."""
    installation.start("crm")
    installation.deliver("acme", change("acme", 5, prospect="q"), policy=OLD)
    installation.deliver("acme", change("acme", 1, prospect="secret-bio"), policy=OLD)
    installation.later()
    beta = installation.of("beta")
    beta.append(b"secret not json", team="beta")
    beta.sequence()
    installation.later()
    gamma = installation.of("gamma")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.store.sequence.read", lambda *_: 1 / 0)
        gamma.sequence(change("gamma", 1))
    return installation


def ids(installation: Installation, *arguments: str) -> list[str]:
    ran = installation.run("quarantine", "list", "--json", "--oldest-first", *arguments)
    return [found["id"] for found in ran.json["quarantine"]]


def test_a_delivery_is_shown_without_its_body_unless_asked_for(odd: Installation) -> None:
    old, beta, gamma = ids(odd)
    ran = odd.run("quarantine", "show", old)
    assert (ran.code, "secret" in ran.out) == (0, False)
    for words in ("acme-1", "too_old", "needs --force"):
        assert words in ran.out
    assert "would bring it back here" in odd.run("quarantine", "show", beta).out
    assert "secret not json" in odd.run("quarantine", "show", beta, "--show-body").out
    assert "retry" not in odd.run("quarantine", "show", gamma).out
    document = odd.run("quarantine", "show", old, "--json", "--show-body").json
    words = {"id", "event_id", "team", "reason", "detail", "body"}
    assert shape(document) == dict.fromkeys(words, "str") | dict.fromkeys({"arrived", "at", "size"}, "int") | {
        "readable": "bool"
    }
    assert odd.run("quarantine", "show", "0:5-5").code == 1


def test_only_what_can_be_helped_is_retried_and_the_rest_is_said(odd: Installation) -> None:
    assert odd.run("quarantine", "retry", "--all").code == 2
    dry = odd.run("quarantine", "retry", "--all", "--dry-run", "--json").json
    assert (dry["retried"], dry["unreadable"], dry["doubtful"]) == (1, 1, 1)
    ran = odd.run("quarantine", "retry", "--all", "--yes")
    assert ran.code == 1
    assert ran.out.startswith("1 of 3 quarantined deliveries retried.\n1 left: this version")
    assert "1 left: they may be duplicates" in ran.out
    odd.of("gamma").sequence()
    assert odd.of("gamma").seqs_in("crm", "gamma") == [1]
    odd.of("gamma").balanced()
    (done,) = actions.recent(odd.client, odd.settings.prefix, 9)
    assert (done.what, done.count) == ("quarantine retry", 1)
    assert len(ids(odd)) == 2


def test_a_person_may_insist(odd: Installation) -> None:
    ran = odd.run("quarantine", "retry", "--all", "--yes", "--force", "--json")
    assert (ran.code, ran.json["retried"]) == (0, 3)
    for team in ("acme", "beta", "gamma"):
        odd.of(team).sequence(policy=OLD)
        odd.of(team).balanced()
    assert odd.of("acme").seqs_in("crm", "acme") == [5, 1]
    assert [found.split(":")[0] for found in ids(odd)] == [str(odd.of("beta").keys.partition)]


@pytest.mark.parametrize(
    ("arguments", "left"), [(["--reason", "not_json"], 2), (["--team", "acme"], 2), (["--newer-than", "1h"], 0)]
)
def test_filters_choose_what_is_dropped(odd: Installation, arguments: list[str], left: int) -> None:
    assert odd.run("quarantine", "drop", *arguments).code == 2
    ran = odd.run("quarantine", "drop", "--yes", *arguments)
    assert (ran.code, len(ids(odd))) == (0, left)
    for team in ("acme", "beta", "gamma"):
        odd.of(team).balanced()


def test_named_deliveries_need_no_question_and_are_gone_the_second_time(odd: Installation) -> None:
    place = ids(odd)[0]
    assert odd.run("quarantine", "drop", place).out == "1 of 1 quarantined delivery dropped.\n"
    ran = odd.run("quarantine", "drop", place)
    assert (ran.code, ran.out) == (1, "None of them is there (any more).\n")
