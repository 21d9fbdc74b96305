"""`handoff dead show | retry | drop`: what is counted, asked, done, said and recorded."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli_kit import Installation, Ran, describe, shape
from tests.store_kit import change, to
from worker.ops import acting
from worker.store import actions
from worker.store.installation import announce_handlers


@pytest.fixture
def buried(installation: Installation) -> Installation:
    """Four dead letters: acme 1 and 2 (crm, Rejected), beta 1 (mail, TimeoutError), gamma 1 (old: no worker has it)."""
    installation.start("crm", "mail")
    installation.deliver("acme", *[change("acme", seq, prospect=f"secret-bio-{seq}") for seq in (1, 2)])
    installation.deliver("beta", change("beta", 1), route=to("mail"))
    installation.deliver("gamma", change("gamma", 1), route=to("old"))
    for _ in range(2):
        installation.bury("acme")
        installation.later()
    installation.bury("beta", "mail", error="TimeoutError")
    installation.later()
    installation.bury("gamma", "old")
    return installation


def ids(installation: Installation, *arguments: str) -> list[str]:
    ran = installation.run("dead", "list", "--json", "--oldest-first", *arguments)
    return [letter["id"] for letter in ran.json["dead"]]


def recorded(installation: Installation) -> list[actions.Done]:
    return list(actions.recent(installation.client, installation.settings.prefix, 100))


def waiting(installation: Installation, team: str, handler: str = "crm") -> list[int]:
    return installation.of(team).seqs_in(handler, team)


def line(ran: Ran) -> str:
    assert (ran.code, ran.out) == (2, ""), ran
    return ran.err.splitlines()[-1]


def test_a_letter_is_shown_without_texts_and_body_unless_asked_for(buried: Installation) -> None:
    first = ids(buried)[0]
    plain = buried.run("dead", "show", first)
    assert (plain.code, plain.err) == (0, "")
    assert "secret" not in plain.out
    for words in ("acme-1", "prospect.assigneeChanged", "crm.Rejected", "3 "):
        assert words in plain.out
    whole = buried.run("dead", "show", first, "--show-text", "--show-body")
    assert "secret text" in whole.out
    assert '"externalId": "secret-bio-1"' in whole.out
    assert "secret" not in buried.run("dead", "show", first, "--json").out


def test_the_shape_of_a_shown_letter(buried: Installation) -> None:
    document: Any = buried.run("dead", "show", ids(buried)[0], "--json", "--show-text", "--show-body").json
    words = {"id", "event_id", "type", "team", "handler", "lane", "kind", "error", "text", "body"}
    numbers = {"seq", "arrived", "at", "attempts", "size"}
    expected: dict[str, Any] = dict.fromkeys(words, "str") | dict.fromkeys(numbers, "int")
    expected |= dict.fromkeys({"late", "overtaken", "body_kept"}, "bool")
    expected["failed"] = [{"number": "int", "at": "int", "error": "str", "text": "str"}]
    assert shape(document) == expected


def test_what_is_not_there_is_said_with_exit_code_1(buried: Installation) -> None:
    for place in ("1:5-5", "77:5-5"):
        ran = buried.run("dead", "show", place)
        assert (ran.code, ran.out) == (1, "")
        assert "no dead letter of this id" in ran.err
        ran = buried.run("dead", "retry", place)
        assert (ran.code, ran.out) == (1, "None of them is there (any more).\n")
    assert "for instance 3:1700000000000-0" in line(buried.run("dead", "show", "acme-1"))


def test_named_letters_are_retried_without_a_question_and_it_is_recorded(buried: Installation) -> None:
    first = ids(buried, "--team", "acme")[0]
    ran = buried.run("dead", "retry", first)
    assert (ran.code, ran.out, ran.err) == (0, "1 of 1 dead letter retried.\n", "")
    assert waiting(buried, "acme") == [1]
    buried.of("acme").balanced("crm", "mail", "old")
    (done,) = recorded(buried)
    assert (done.what, done.count, done.args) == (
        "dead retry",
        1,
        {"ids": [first], "result": {"matched": 1, "retried": 1}},
    )
    assert "@" in done.who
    again = buried.run("dead", "retry", first, ids(buried, "--handler", "mail")[0], "--json")
    assert again.code == 1
    assert (again.json["missing"], again.json["retried"], again.json["matched"]) == (1, 1, 1)


def test_many_are_not_touched_where_nobody_can_be_asked(buried: Installation) -> None:
    found = line(buried.run("dead", "retry", "--handler", "crm"))
    assert found.startswith("Error: --yes: 2 dead letters to retry, and nobody to ask")
    assert line(buried.run("dead", "drop", "--all", "--json")).startswith("Error: --yes: 4 dead letters to drop")
    assert len(ids(buried)) == 4
    assert recorded(buried) == []


@pytest.mark.parametrize(
    "arguments", [[], ["--all", "1:5-5"], ["--handler", "crm", "1:5-5"]], ids=["nothing", "all and an id", "both"]
)
def test_what_it_is_done_to_must_be_said_one_way(installation: Installation, arguments: list[str]) -> None:
    for verb in ("retry", "drop"):
        assert "say which" in line(installation.run("dead", verb, *arguments))


def test_a_dry_run_counts_and_changes_nothing(buried: Installation) -> None:
    before = buried.of("acme").dump()
    ran = buried.run("dead", "retry", "--all", "--dry-run")
    assert ran.code == 0
    assert "2  crm  crm.Rejected" in ran.out
    assert "4 of 4 dead letters would be retried." in ran.out
    assert "No worker announces the handler old: 1 retried job would wait" in ran.err
    ran = buried.run("dead", "drop", "--all", "--dry-run", "--json")
    assert shape(ran.json) == {
        "matched": "int",
        "missing": "int",
        "dry_run": "bool",
        "by": [{"handler": "str", "error": "str", "count": "int"}],
        "dropped": "int",
        "gone": "int",
    }
    assert buried.of("acme").dump() == before
    assert recorded(buried) == []


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--handler", "crm"], 2),
        (["--team", "acme"], 2),
        (["--error", "TimeoutError"], 1),
        (["--error", "Rejected", "--handler", "old"], 1),
        (["--older-than", "1h"], 0),
        (["--newer-than", "1h"], 4),
        (["--all"], 4),
    ],
)
def test_filters_choose_and_all_that_match_are_retried(buried: Installation, arguments: list[str], count: int) -> None:
    ran = buried.run("dead", "retry", "--yes", "--json", *arguments)
    assert (ran.code, ran.json["matched"], ran.json["retried"]) == (0, count, count)
    assert len(ids(buried)) == 4 - count
    for team in ("acme", "beta", "gamma"):
        buried.of(team).balanced("crm", "mail", "old")


def test_a_stale_letter_is_skipped_said_forced_or_dropped(buried: Installation) -> None:
    buried.deliver("acme", change("acme", 3, prospect="secret-bio-1", assignee="m2"))
    first = ids(buried, "--team", "acme")[0]
    assert "newer change" in buried.run("dead", "show", first).out
    ran = buried.run("dead", "retry", "--team", "acme", "--yes")
    assert ran.code == 1
    assert ran.out.startswith("1 of 2 dead letters retried.\n1 stale, and left where they are")
    assert "`handoff dead drop --stale`" in ran.out
    assert waiting(buried, "acme") == [3, 2]
    assert buried.run("dead", "drop", "--stale", "--dry-run", "--json").json["matched"] == 1
    assert buried.run("dead", "retry", first, "--force").code == 0
    assert waiting(buried, "acme") == [3, 2, 1]


def test_what_a_handler_announced_decides_what_is_stale_for_it(buried: Installation) -> None:
    for name, option, retried in (("crm", {"on": ["prospect.*"]}, 2), ("mail", {"late": "all"}, 1), ("old", {}, 0)):
        announce_handlers(buried.client, buried.settings, [describe(name, **option)])
        for team, seq in (("acme", 9), ("beta", 9), ("gamma", 9)):
            for prospect in ("p", "secret-bio-1", "secret-bio-2"):
                body = change(team, seq, prospect=prospect, assignee="m9", event_id=f"{team}{name}{prospect}")
                buried.deliver(team, body, route=to())
        ran = buried.run("dead", "retry", "--handler", name, "--dry-run", "--json")
        assert (name, ran.json["retried"]) == (name, retried)


def test_stale_letters_alone_are_dropped(buried: Installation) -> None:
    buried.deliver("acme", change("acme", 3, prospect="secret-bio-1", assignee="m2"))
    ran = buried.run("dead", "drop", "--stale", "--yes")
    assert (ran.code, ran.out) == (0, "1 of 1 dead letter dropped.\n")
    assert [done.what for done in recorded(buried)] == ["dead drop"]
    assert len(ids(buried)) == 3


def test_dropping_is_for_good_and_the_books_stay_right(buried: Installation) -> None:
    assert buried.run("dead", "drop", "--all", "--yes").out == "4 of 4 dead letters dropped.\n"
    assert buried.run("dead", "drop", "--all", "--yes").out == "None of the dead letters matches.\n"
    assert buried.run("audit").code == 0
    assert buried.run("status").code == 0


@pytest.mark.parametrize(("typed", "code", "retried"), [("n\n", 1, []), ("\n", 1, []), ("y\n", 0, [1, 2])])
def test_at_a_terminal_a_person_is_asked(
    buried: Installation, monkeypatch: pytest.MonkeyPatch, typed: str, code: int, retried: list[int]
) -> None:
    monkeypatch.setattr(acting, "somebody_is_there", lambda: True)
    ran = buried.run("dead", "retry", "--handler", "crm", typed=typed)
    assert "2  crm  crm.Rejected" in ran.err
    assert "Retry 2 dead letters? [y/N]" in ran.err
    assert (ran.code, waiting(buried, "acme"), len(recorded(buried))) == (code, retried, int(not code))


def test_a_run_that_is_stopped_half_way_leaves_its_record_and_is_run_again(
    buried: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a rate each piece is followed by a pause, in which a person loses patience."""
    from worker.ops import dead_actions
    from worker.ops.installed import installed
    from worker.store.dead import DeadFilter
    from worker.store.pages import Window

    for name, value in buried.environment.items():
        monkeypatch.setenv(name, value)

    def impatient(seconds: float) -> None:
        assert 0 < seconds <= 1
        raise KeyboardInterrupt

    asked = acting.Asked(yes=True, dry_run=False, as_json=False, named=False, rate=1)
    with installed() as found:
        for left in (3, 2):
            letters, _ = dead_actions.choose(found, (), DeadFilter(), Window())
            action = dead_actions.retry(found, letters, 0, {}, force=False)
            with pytest.raises(KeyboardInterrupt):
                acting.carry_out(found, asked, action, sleep=impatient)
            assert len(ids(buried)) == left
    for done, matched in zip(recorded(buried), (3, 4), strict=True):
        assert (done.count, done.args["result"]) == (1, {"matched": matched, "retried": 1, "unfinished": True})
    assert buried.run("dead", "retry", "--all", "--yes").code == 0
    for team in ("acme", "beta", "gamma"):
        buried.of(team).balanced("crm", "mail", "old")


def test_a_handler_that_is_paused_is_warned_of(buried: Installation) -> None:
    buried.run("handlers", "pause", "crm")
    ran = buried.run("dead", "retry", "--handler", "crm", "--yes")
    assert (ran.code, ran.out) == (0, "2 of 2 dead letters retried.\n")
    assert "The handler crm is paused: 2 retried jobs would wait until `handoff handlers resume crm`." in ran.err


def test_a_letter_whose_body_was_lost_is_left_and_said_so(buried: Installation) -> None:
    buried.client.xtrim(buried.of("beta").keys.inbox, maxlen=0)
    place = ids(buried, "--team", "beta")[0]
    ran = buried.run("dead", "retry", place)
    assert ran.code == 1
    assert "1 left: the event's body was lost" in ran.out
    assert "can't be retried" in buried.run("dead", "show", place, "--show-body").out
    assert buried.run("dead", "drop", place).code == 0
