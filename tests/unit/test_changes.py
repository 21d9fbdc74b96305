"""What an event changes: every kind, and what makes it stale."""

import pytest

from worker.core.changes import Change, ChangeKind, Owner, assignee_change, overtaken, owner_after
from worker.core.envelope import Envelope

A, R, U, N = ChangeKind.ASSIGNED, ChangeKind.REASSIGNED, ChangeKind.UNASSIGNED, ChangeKind.UNCHANGED


def event(assignee: str | None, seq: int = 5, at: int | None = 100, name: str = "m") -> Envelope:
    return Envelope(name, seq, "t", "prospect.assigneeChanged", at, "p", assignee)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, "a", A),
        ("a", "b", R),
        ("a", None, U),
        ("a", "a", N),
        (None, None, N),
    ],
)
def test_a_known_owner_and_the_new_one_make_the_kind(before: str | None, after: str | None, kind: ChangeKind) -> None:
    known = Owner(4, 90, "l", before)
    assert assignee_change(known, event(after)) == Change(kind, before, previous_known=True, stale=False)


@pytest.mark.parametrize(("after", "kind"), [("a", A), (None, U)])
def test_the_first_change_of_a_prospect_is_one_though_the_previous_owner_is_unknown(
    after: str | None, kind: ChangeKind
) -> None:
    assert assignee_change(None, event(after)) == Change(kind, None, previous_known=False, stale=False)


@pytest.mark.parametrize(
    ("known", "stale"),
    [
        ((6, 0, "a"), True),
        ((5, 101, "a"), True),
        ((5, 100, "n"), True),
        ((5, 100, "l"), False),
        ((5, 99, "z"), False),
        ((4, 999, "z"), False),
    ],
)
def test_an_event_is_stale_by_number_then_time_then_id(known: tuple[int, int, str], stale: bool) -> None:
    change = assignee_change(Owner(*known, "x"), event("a"))
    assert change.stale is stale
    assert change.previous_known is not stale


def test_a_stale_change_claims_no_previous_owner() -> None:
    """The owner known now came later: it is not whom this event took the prospect from."""
    assert assignee_change(Owner(9, 0, "z", "newer"), event("a")) == Change(A, None, previous_known=False, stale=True)


def test_an_unreadable_time_counts_as_the_earliest() -> None:
    assert owner_after(event("a", at=None)) == Owner(5, 0, "m", "a")
    assert assignee_change(Owner(5, 1, "a", "x"), event("a", at=None)).stale
    assert not assignee_change(Owner(5, 0, "l", "x"), event("a", at=None)).stale


def test_kinds_compare_equal_to_the_words_that_handlers_write() -> None:
    assert [kind.value for kind in ChangeKind] == ["assigned", "reassigned", "unassigned", "unchanged"]
    assert ChangeKind("reassigned") == "reassigned"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (None, False),
        (Owner(4, 999, "z", "b"), False),
        (Owner(5, 100, "m", "a"), False),
        (Owner(6, 0, "a", "b"), True),
        (Owner(5, 101, "a", "b"), True),
        (Owner(6, 0, "a", None), True),
        (Owner(6, 0, "a", "a"), False),
    ],
    ids=["unknown", "older", "itself", "newer", "newer by time", "nobody's by now", "newer, and the same owner"],
)
def test_a_newer_event_that_says_another_owner_overtakes(known: Owner | None, expected: bool) -> None:
    assert overtaken(known, event("a")) is expected
