"""What a replay makes of one record of the archive."""

from __future__ import annotations

from typing import Any

import pytest

from worker.core import archive, jobs
from worker.core.archive import Record
from worker.core.changes import Change, ChangeKind, Owner
from worker.core.envelope import Envelope
from worker.core.replaying import Again, Skip, Wanted, choose, terms_of
from worker.core.sequencing import Arrival, Released

EVENT = Envelope("e5", 5, "a:b", "prospect.assigneeChanged", 1000, "p1", "m2")
MESSAGE = EVENT._replace(type="message.created", prospect=None, assignee=None)
ASSIGNED = Change(ChangeKind.REASSIGNED, "m1", previous_known=True)
SAME = Owner(5, 1000, "e5", "m2")
NEWER = Owner(6, 1000, "e6", "m3")


def record(event: Envelope = EVENT, change: Change | None = ASSIGNED, handlers: tuple[str, ...] = ()) -> Record:
    job = jobs.encode(Released(Arrival(event, "7-1", 7, 99), False, change), shared=True)
    return archive.decode(archive.encode(event.id, list(handlers), 50, job).encode())


def chosen(
    found: Record | None = None, event: Envelope | None = EVENT, wanted: Wanted | None = None, **other: Any
) -> Any:
    given: dict[str, Any] = {"ended": "", "owner": SAME, "force": False} | other
    spec = terms_of({"name": "crm", "on": "assignee changes"} | given.pop("described", {}))
    return choose(found or record(), event, spec, wanted or Wanted(), **given)


def test_an_event_becomes_a_late_job_of_its_lane_with_the_owner_it_had_then() -> None:
    again = chosen()
    assert isinstance(again, Again)
    job = jobs.decode(again.job.encode())
    assert (again.lane, job.entry, job.shared, job.size, job.seq, job.late) == ("a%3Ab", "7-1", True, 99, 5, True)
    assert job.change == ASSIGNED


@pytest.mark.parametrize(
    ("order_by", "lane"), [("team", "a%3Ab"), ("prospect", "a%3Ab:p1"), (None, "a%3Ab:7-1")], ids=str
)
def test_it_goes_to_the_lane_that_the_handler_orders_by(order_by: str | None, lane: str) -> None:
    assert chosen(described={"order_by": order_by}).lane == lane


def test_a_conflating_handler_gets_a_job_that_it_can_join() -> None:
    job = jobs.decode(chosen(described={"conflate": True}).job.encode())
    assert job.joint == ("m1", "m2", "p1", "e5", ())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"event": None}, Skip.LOST),
        ({"wanted": Wanted(team="a")}, Skip.OTHER),
        ({"wanted": Wanted(prospect="p2")}, Skip.OTHER),
        ({"wanted": Wanted(type="message.*")}, Skip.OTHER),
        ({"described": {"on": ["message.*"]}}, Skip.UNWANTED),
        ({"found": record(change=ASSIGNED._replace(kind=ChangeKind.UNCHANGED))}, Skip.UNWANTED),
        ({"found": record(MESSAGE, None), "event": MESSAGE, "owner": None}, Skip.UNWANTED),
        ({"found": record(handlers=("crm",))}, Skip.WAITING),
        ({"found": record(handlers=("crm",)), "ended": "dead"}, Skip.DEAD),
        ({"owner": NEWER}, Skip.STALE),
        ({"found": record(change=ASSIGNED._replace(stale=True))}, Skip.STALE),
    ],
    ids=str,
)
def test_what_is_skipped(given: dict[str, Any], expected: Skip) -> None:
    assert chosen(**given) is expected


@pytest.mark.parametrize(
    "given",
    [
        {"wanted": Wanted(team="a:b", prospect="p1", type="prospect.*")},
        {"found": record(handlers=("crm",)), "ended": "done"},
        {"found": record(handlers=("crm",)), "ended": "dropped"},
        {"found": record(handlers=("mail",))},
        {"owner": None},  # forgotten, so nothing newer is known
        {"found": record(MESSAGE, None), "event": MESSAGE, "described": {"on": ["message.*"]}, "owner": None},
        {"described": {"on": ["prospect.*"]}, "owner": NEWER},  # events are not states: none overtakes another
        {"found": record(change=ASSIGNED._replace(kind=ChangeKind.UNCHANGED)), "described": {"unchanged": True}},
    ],
    ids=str,
)
def test_what_is_replayed(given: dict[str, Any]) -> None:
    assert isinstance(chosen(**given), Again)


@pytest.mark.parametrize("given", [{"force": True}, {"described": {"late": "all"}}], ids=str)
def test_a_stale_change_goes_out_marked_if_it_is_asked_for(given: dict[str, Any]) -> None:
    change = jobs.decode(chosen(owner=NEWER, **given).job.encode()).change
    assert change is not None
    assert change.stale


def test_release_times_are_both_included() -> None:
    assert [Wanted(since=50, until=50).by_time(record()), Wanted(since=51).by_time(record())] == [True, False]
    assert not Wanted(until=49).by_time(record())
