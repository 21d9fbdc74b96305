"""`handoff handlers pause` and `resume`, the status of handlers that are paused or held back, and `handoff actions`."""

from __future__ import annotations

import io
import time
from typing import Any

import msgspec
import pytest
from rich.console import Console

from tests.cli_kit import Installation, describe
from tests.store_kit import change, to
from worker.core.breaker import Bucket, Circuit
from worker.errors import ConfigurationError
from worker.ops import handler_control, status_view
from worker.ops.installed import Installed
from worker.ops.status import gather
from worker.store.control import ControlStore
from worker.store.installation import announce_handlers
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts


def store_of(installation: Installation, handler: str = "crm") -> ControlStore:
    return ControlStore(installation.client, Scripts(installation.client), installation.settings.prefix, handler)


def installed(installation: Installation) -> Installed:
    partitions = tuple(PartitionKeys(installation.settings.prefix, number) for number in range(4))
    return Installed(installation.settings, installation.client, Scripts(installation.client), partitions)


def status_of(installation: Installation, handler: str = "crm") -> tuple[dict[str, Any], list[str]]:
    """The handler's circuit, and the problems that tell of the handler."""
    document = gather(installed(installation)).document()
    (found,) = [each["circuit"] for each in document["handlers"] if each["name"] == handler]
    return found, [problem for problem in document["problems"] if f"handler {handler} " in problem]


def screen(installation: Installation) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(status_view.view(gather(installed(installation)), "handoff"))
    return out.getvalue().splitlines()


def opened(installation: Installation, **state: Any) -> None:
    store = store_of(installation)
    read = store.read()
    at = {name: read.now + ms for name, ms in state.items() if name in ("opened", "until", "lease")}
    assert store.swap(read, msgspec.structs.replace(Circuit(error="ConnectError", seen=5), **state | at))


def test_a_handler_is_paused_and_resumed_and_both_are_on_record(installation: Installation) -> None:
    installation.start("crm", "mail")
    installation.deliver("acme", change("acme", 1), change("acme", 2))
    ran = installation.run("handlers", "pause", "crm")
    assert (ran.code, ran.err) == (0, "")
    assert "crm is paused" in ran.out
    assert "2 jobs wait" in ran.out
    assert store_of(installation).read().paused is not None
    again = handler_control.change(installed(installation), "crm", pause=True)
    assert again.startswith("crm is paused already, since 20")
    assert installation.run("handlers", "resume", "crm").out == "crm is resumed; 2 jobs wait.\n"
    assert store_of(installation).read().paused is None
    assert handler_control.change(installed(installation), "crm", pause=False) == "crm was not paused."
    resumed, paused = installation.run("actions", "--json").json
    assert (paused["what"], paused["args"], paused["count"]) == ("handlers pause", {"handler": "crm"}, 1)
    assert resumed["what"] == "handlers resume"
    assert "@" in paused["who"]
    header, first, _ = installation.run("actions").out.splitlines()
    assert header.split() == ["when", "who", "what", "with", "count"]
    assert "handlers resume" in first
    assert "handler=crm" in first


def test_a_name_that_nobody_knows_is_one_line_with_those_there_are(installation: Installation) -> None:
    installation.start("crm", "mail")
    ran = installation.run("handlers", "pause", "cmr")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "Error: handler 'cmr': is not known here (there are crm, mail)\n"
    with pytest.raises(ConfigurationError, match="is not known here"):
        handler_control.change(installed(installation), "cmr", pause=False)
    assert installation.run("actions").out == "Nobody has changed anything yet.\n"


def test_a_handler_that_only_has_jobs_can_be_paused(installation: Installation) -> None:
    installation.start()
    with pytest.raises(ConfigurationError, match="no worker has announced one yet"):
        handler_control.change(installed(installation), "gone", pause=True)
    installation.deliver("acme", change("acme", 1), route=to("gone"))
    assert "gone is paused" in handler_control.change(installed(installation), "gone", pause=True)


def test_the_bare_command_still_lists_and_so_does_its_name(installation: Installation) -> None:
    installation.start("crm")
    assert installation.run("handlers", "list", "--json").json == installation.run("handlers", "--json").json
    assert installation.run("handlers", "--json", "pause", "crm").code == 2


def test_the_status_names_a_paused_handler_and_who_did_it(installation: Installation) -> None:
    installation.start("crm", "mail")
    handler_control.change(installed(installation), "crm", pause=True)
    circuit, problems = status_of(installation)
    assert circuit["paused_ms"] >= 0
    assert "@" in circuit["paused_by"]
    (problem,) = problems
    assert problem.startswith("handler crm was paused ")
    assert problem.endswith("see `handoff handlers resume crm`")
    assert status_of(installation, "mail")[1] == []
    rows = [line.split()[-1] for line in screen(installation) if line.startswith(("crm ", "mail "))]
    assert rows == ["paused", "closed"]


def test_the_status_names_a_handler_that_is_held_back_since_when_why_and_until_when(
    installation: Installation,
) -> None:
    installation.start("crm")
    installation.deliver("acme", change("acme", 1))
    partition = installation.of("acme")
    installation.client.zadd(partition.keys.ready("crm"), {"acme": 1})  # due for long: but nobody is to take it
    opened(installation, opened=-754_000, until=39_500, failures=7)
    circuit, (problem,) = status_of(installation)
    assert (circuit["state"], circuit["failures"], circuit["error"]) == ("open", 12, "ConnectError")
    assert 754_000 <= circuit["open_ms"] < 800_000
    assert 0 < circuit["next_try_ms"] <= 39_500
    assert problem.startswith("handler crm is held back, for what it calls has been down for 12m")
    assert "(ConnectError): next try in " in problem
    assert any("open, next try in " in line for line in screen(installation))
    opened(installation, opened=-754_000, until=-5)
    assert status_of(installation)[1][0].endswith("next try with the next job")


def test_failures_that_do_not_open_it_are_counted_and_are_no_problem(installation: Installation) -> None:
    installation.start("crm")
    now = int(time.time() * 1000)
    opened(installation, seen=0, buckets=(Bucket(now - 120_000, failed=9), Bucket(now - 1000, 5, 1, 2)))
    circuit, problems = status_of(installation)
    assert (circuit["state"], circuit["failures"], circuit["error"], problems) == ("closed", 3, "ConnectError", [])


def test_a_handler_without_a_breaker_is_not_held_back(installation: Installation) -> None:
    installation.start("crm")
    opened(installation, opened=-1000, until=39_500)
    announce_handlers(installation.client, installation.settings, [describe("crm", breaker=None)])
    circuit, problems = status_of(installation)
    assert (circuit["state"], circuit["open_ms"], problems) == ("off", None, [])
    announce_handlers(installation.client, installation.settings, [describe("crm", breaker="novel=1")])
    assert status_of(installation)[0]["state"] == "open"
