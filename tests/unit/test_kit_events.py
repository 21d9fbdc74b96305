"""worker.testing's builders: what they make is what the provider sends and the sequencer works out."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

import worker.testing
from worker import ChangeKind
from worker.core.envelope import read
from worker.testing import change, changes, event


@pytest.mark.parametrize(
    ("named", "version"),
    [
        ("prospect.assigneeChanged", 1),
        ("thread.assigned", 1),
        ("thread.unassigned", 1),
        ("contact.assigneeChanged", 2),
    ],
)
@pytest.mark.parametrize("assignee", ["ada", None])
def test_a_change_reads_as_the_provider_s_event(named: str, version: int, assignee: str | None) -> None:
    made = change(
        assignee, type=named, version=version, team="acme", prospect="p7", seq=42, valuation=2500, notes="call back"
    )
    found = read(made.event.raw, "acme")
    assert (found.type, found.team, found.seq, found.prospect, found.assignee) == (named, "acme", 42, "p7", assignee)
    assert (made.assignee_id, made.prospect.key, made.seq, made.team_id) == (assignee, "p7", 42, "acme")
    assert made.event.model.id == made.event_id
    if version == 1:
        context = made.prospect.context
        assert (context["valuation"], context["notes"]) == (2500, "call back")
    else:
        assert "teamId" not in made.event.document


@pytest.mark.parametrize(
    ("previous", "assignee", "kind"),
    [("ben", "ada", "reassigned"), (None, "ada", "assigned"), ("ben", None, "unassigned"), ("ada", "ada", "unchanged")],
)
def test_the_kind_is_worked_out(previous: str | None, assignee: str | None, kind: str) -> None:
    made = change(assignee, previous=previous)
    assert (made.kind, made.previous_assignee_id, made.previous_known) == (kind, previous, True)


def test_what_a_test_says_holds() -> None:
    made = change("ada", kind="unchanged", late=True, absorbed=["e1"], id="e2", profile={"username": "sarah"})
    assert (made.kind, made.late, made.absorbed, made.event_id) == (ChangeKind.UNCHANGED, True, ("e1",), "e2")
    assert made.prospect.username == "sarah"
    stale = change("ada", stale=True)
    assert (stale.stale, stale.late, stale.previous_known, stale.kind) == (True, True, False, "assigned")
    first = change("ada", previous_known=False)
    assert (first.previous_assignee_id, first.previous_known, first.kind) == (None, False, "assigned")


def test_what_no_event_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="previous"):
        change("ada", previous="ben", stale=True)
    with pytest.raises(ValueError, match="says nothing of an owner"):
        change("ada", type="message.created")
    with pytest.raises(ValueError, match="version 2"):
        change("ada", type="prospect.assigneeChanged", version=2)


def test_a_history_is_consistent() -> None:
    history = changes("ada", "ben", "ben", None, prospect="p9", start=5)
    assert [made.kind for made in history] == ["assigned", "reassigned", "unchanged", "unassigned"]
    assert [made.previous_assignee_id for made in history] == [None, "ada", "ben", "ben"]
    assert [made.previous_known for made in history] == [False, True, True, True]
    assert [made.seq for made in history] == [5, 6, 7, 8]
    assert {made.prospect.key for made in history} == {"p9"}
    times = [made.occurred_at for made in history]
    assert times == sorted(times)
    assert len({made.event_id for made in history}) == 4
    assert changes("ada", previous="ben")[0].kind == "reassigned"
    assert changes("ada", previous_known=True)[0].previous_known


def test_events_of_any_type() -> None:
    made = event("message.created", {"id": "m1"}, team="acme")
    assert (made.type, made.data, made.team_id, made.late) == ("message.created", {"id": "m1"}, "acme", False)
    assert event().seq < event().seq
    assert event("prospect.tagsChanged", tags=["vip"]).data["prospect"]["context"]["tags"] == ["vip"]
    assert "assigneeId" not in event("prospect.tagsChanged").data["prospect"]["context"]
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert event(at=noon).occurred_at == noon
    now = event().occurred_at
    assert now is not None
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=5)


def test_every_exported_name_is_there_and_documented() -> None:
    for name in worker.testing.__all__:
        assert getattr(worker.testing, name).__doc__
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = worker.testing.nothing_such  # type: ignore[attr-defined]


def test_it_brings_neither_pytest_nor_hypothesis_nor_the_runtime() -> None:
    code = (
        "import sys, worker.testing\n"
        "wrong = {'pytest', 'hypothesis', 'celery', 'redis', 'pydantic'} & set(sys.modules)\n"
        "assert not wrong, wrong\n"
        "from worker.testing import *\n"
        "assert not {'pytest', 'hypothesis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
