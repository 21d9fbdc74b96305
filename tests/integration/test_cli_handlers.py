"""`handoff handlers`: what workers announced, and the jobs that wait."""

from __future__ import annotations

from tests.cli_kit import Installation, describe
from tests.store_kit import change, to


def test_announced_handlers_with_their_jobs(installation: Installation) -> None:
    installation.start("crm", "mail")
    installation.deliver("acme", *[change("acme", seq) for seq in (1, 2, 3)])
    installation.deliver("beta", change("beta", 1))
    installation.settle("acme", done=1)
    ran = installation.run("handlers", "--json")
    assert ran.code == 0
    assert ran.json == [
        {"name": "crm", "announced": True} | describe("crm") | {"waiting": 3},
        {"name": "mail", "announced": True} | describe("mail") | {"waiting": 0},
    ]
    header, crm, _ = installation.run("handlers").out.splitlines()
    columns = ["handler", "on", "queue", "attempts", "timeout", "concurrency", "rate", "other", "options", "waiting"]
    assert header.split() == columns
    assert crm.split() == ["crm", "assignee", "changes", "q.crm", "5", "10", "s", "64", "100/10s", "-", "3"]


def test_a_handler_that_only_has_jobs_is_listed_too(installation: Installation) -> None:
    installation.start()
    installation.deliver("acme", change("acme", 1), route=to("gone"))
    assert installation.run("handlers", "--json").json == [{"name": "gone", "announced": False, "waiting": 1}]
    assert "gone (not announced)" in installation.run("handlers").out


def test_none_is_said_so(installation: Installation) -> None:
    ran = installation.run("handlers")
    assert (ran.code, ran.out) == (0, "No worker has announced a handler yet.\n")
    assert installation.run("handlers", "--json").json == []
