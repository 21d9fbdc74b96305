"""The command line under the users of deploy/users.acl: everything works, and they have no right that nothing uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import access, servers
from tests.cli_kit import READING, Installation, Ran
from tests.rights_kit import check
from tests.store_kit import PATIENT, change, to
from tests.watching import watching
from worker.ops import replaying
from worker.settings import Settings
from worker.store.lanes import Action, Attempt

pytestmark = pytest.mark.server


@pytest.fixture(params=servers.KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with servers.running(request.param, locked=True) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    """The tests' own connection: one, so that it can be told from those that are watched."""
    with redis.Redis.from_url(url, single_connection_client=True) as found:
        yield found


@pytest.fixture
def place(url: str, tmp_path: Path) -> Installation:
    """Something of everything that there is to see, or to do something about."""
    made = Installation(Settings(redis_url=url, partitions=4), tmp_path)
    made.start("crm", "new")
    made.deliver("acme", *(change("acme", seq, prospect=f"p{seq}") for seq in range(1, 8)), b"not json", b"nor this")
    made.deliver("acme", change("acme", 7, prospect="p7"))
    for _ in range(3):
        made.bury("acme")
    made.settle("acme", done=1)
    made.deliver("beta", change("beta", 1), change("beta", 2))
    failed = [Attempt(1, 1, "app.Down", "text")]
    made.settle("beta", action=Action.BLOCK, attempts=1, failed=failed, error="app.Down")
    made.deliver("gamma", change("gamma", 1))
    made.settle("gamma", action=Action.BLOCK, attempts=1, failed=failed, error="app.Down")
    made.deliver("held", change("held", 5), policy=PATIENT)
    made.deliver("fresh", change("fresh", 1), route=to("crm"))
    made.client.close()
    return made


def look(place: Installation) -> None:
    """Every command that only reads, with every option that makes it read more."""
    for command in READING:
        assert place.run(*command).code in {0, 1}, command
    assert place.run("doctor").code in {0, 1}
    fine(place.run("audit", "--deep"))
    for event in ("acme-1", "acme-4", "acme-5", "acme-7", "beta-2", "held-5"):
        fine(place.run("explain", event))
    assert place.run("explain", "nobody").code == 1
    (letter, *_) = ids(place, "dead")
    fine(place.run("dead", "show", letter, "--show-body", "--show-text"))
    (delivery, _) = ids(place, "quarantine")
    fine(place.run("quarantine", "show", delivery, "--show-body"))
    for which in ("--blocked", "--paused", "--troubled"):
        fine(place.run("lanes", "list", which))
    fine(place.run("lanes", "list", "--team", "acme"))
    fine(place.run("replay", "--list"))
    fine(place.run("replay", "--to", "new", "--dry-run"))


def act(place: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that changes something."""
    first, second, _ = ids(place, "dead")
    fine(place.run("dead", "retry", first, "--yes"))
    fine(place.run("dead", "drop", second, "--yes"))
    fine(place.run("dead", "retry", "--handler", "crm", "--yes"))
    fine(place.run("lanes", "pause", "crm", "acme", "fresh", "--yes"))
    fine(place.run("lanes", "resume", "crm", "acme", "--yes"))
    fine(place.run("lanes", "unblock", "crm", "beta", "--yes"))
    fine(place.run("lanes", "unblock", "crm", "gamma", "--give-up", "--yes"))
    fine(place.run("handlers", "pause", "crm"))
    fine(place.run("handlers", "resume", "crm"))
    one, other = ids(place, "quarantine")
    fine(place.run("quarantine", "retry", one, "--force", "--yes"))
    fine(place.run("quarantine", "drop", other, "--yes"))

    whole = replaying.steps

    def stopped(*arguments: Any, **options: Any) -> Iterator[Any]:
        for step in whole(*arguments, **options):
            yield step
            raise KeyboardInterrupt

    for ending in ("--resume", "--forget"):
        with monkeypatch.context() as patched:
            patched.setattr(replaying, "steps", stopped)
            assert place.run("replay", "--to", "new", "--yes").code == 1
        (stopped_one, *_) = place.run("replay", "--list", "--json").json
        fine(place.run("replay", ending, stopped_one["id"]))


def ids(place: Installation, what: str) -> list[str]:
    return [item["id"] for item in place.run(what, "list", "--json").json[what]]


def fine(ran: Ran) -> None:
    assert ran.code == 0, ran.err


def test_an_operator_has_the_rights_that_the_command_line_needs(
    place: Installation, client: redis.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Installation, "environment", {"HANDOFF_REDIS_URL": access.as_user(url, "operator")})
    with watching(url, client) as used:
        look(place)
        act(place, monkeypatch)
        assert place.run("status").code in {0, 1}
    check("operator", used, client)


def test_whoever_only_looks_has_no_right_to_change_anything(
    place: Installation, client: redis.Redis, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Installation, "environment", {"HANDOFF_REDIS_URL": access.as_user(url, "monitor")})
    with watching(url, client) as used:
        look(place)
    check("monitor", used, client)
