"""Jobs as text: whatever goes in comes out, and nothing else is taken for a job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.changes import Change, ChangeKind
from worker.core.envelope import MAX_SEQ, Envelope
from worker.core.jobs import Job, Joint, decode, encode, revived
from worker.core.sequencing import Arrival, Released

# Whatever UTF-8 can carry: spaces, line ends, NUL, the marks and separators of the format itself.
ids = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(["=", " = ", "a b c", "\n"])
)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    known = draw(st.booleans())
    previous = draw(st.one_of(st.none(), ids)) if known else None
    return Change(draw(st.sampled_from(ChangeKind)), previous, known, draw(st.booleans()))


@given(
    st.one_of(st.none(), changes()),
    st.booleans(),
    st.booleans(),
    st.integers(0, MAX_SEQ),
    st.integers(0, 2**30),
)
def test_a_job_reads_back_as_it_was_written(
    change: Change | None, late: bool, shared: bool, seq: int, size: int
) -> None:
    event = Envelope("e", seq, "t", "any", None, None, None)
    text = encode(Released(Arrival(event, "1700000000000-3", 0, size), late, change), shared=shared)
    assert decode(text.encode()) == Job("1700000000000-3", shared, size, seq, late, change)


@given(changes(), st.booleans(), ids, st.one_of(st.none(), ids), ids)
def test_a_job_that_can_be_joined_says_from_whom_to_whom_and_by_which_event(
    change: Change, late: bool, prospect: str, assignee: str | None, event_id: str
) -> None:
    event = Envelope(event_id, 9, "t", "any", None, prospect, assignee)
    text = encode(Released(Arrival(event, "1-3", 0, 5), late, change), shared=False, conflate=True)
    joint = Joint(change.previous, assignee, prospect, event_id, ())
    assert decode(text.encode()) == Job("1-3", False, 5, 9, late, change, joint)


def test_an_event_that_makes_no_change_cannot_be_joined() -> None:
    released = Released(Arrival(Envelope("e", 9, "t", "any", None, None, None), "5-1", 0, 77), False, None)
    assert encode(released, shared=True, conflate=True) == encode(released, shared=True) == "5-1 1 77 9 e "


def test_what_was_absorbed_reads_back() -> None:
    job = decode(b'5-1 0 77 9 rkl +["a b",null,"p","e3",["e1","e 2"]]')
    change = Change(ChangeKind.REASSIGNED, "a b", previous_known=True)
    assert job == Job("5-1", False, 77, 9, True, change, Joint("a b", None, "p", "e3", ("e1", "e 2")))


def test_the_scripts_find_entry_sharing_and_size_as_the_first_words() -> None:
    event = Envelope("e", 9, "t", "any", None, "p", "b")
    change = Change(ChangeKind.REASSIGNED, "a b", previous_known=True)
    text = encode(Released(Arrival(event, "5-1", 0, 77), False, change), shared=True)
    assert text == "5-1 1 77 9 rk =a b"
    text = encode(Released(Arrival(event, "5-1", 0, 77), False, change), shared=True, conflate=True)
    assert text == '5-1 1 77 9 rk +["a b","b","p","e",[]]'


@pytest.mark.parametrize(
    "text",
    [
        *(b"5-1 0 1 9 a +", b"5-1 0 1 9 a +{}", b'5-1 0 1 9 a +["a",null]', b'5-1 0 1 9 a +["a",null,null,"e",[]]'),
        *(
            b"",
            b"5-1",
            b"5-1 0 1 9 a",
            b"5-1 0 1 9  ",
            b"5-1 0 1 9 z ",
            b"5-1 0 1 x a ",
            b"5-1 0 x 9 a ",
            b"\xff 0 1 9 a ",
        ),
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, it is a ValueError
        decode(text)


@given(changes(), st.booleans(), st.booleans(), st.booleans())
def test_a_revived_job_is_the_same_but_late(change: Change, late: bool, conflate: bool, stale: bool) -> None:
    event = Envelope("e", 9, "t", "any", None, "p q", "m 2")
    text = encode(Released(Arrival(event, "1-3", 0, 5), late, change), shared=False, conflate=conflate).encode()
    before, after = decode(text), decode(revived(text, stale=stale))
    assert after == before._replace(shared=True, late=True, change=change._replace(stale=change.stale or stale))
    assert revived(revived(text, stale=stale), stale=stale) == revived(text, stale=stale)


def test_calls_that_failed_behind_others_are_counted_in_the_text_and_begin_anew_when_it_is_revived() -> None:
    for text, tried in ((b"1-0 0 9 7 rk12 =m1 2", 12), (b"1-0 0 9 7 e3 ", 3), (b"1-0 0 9 7 rk =m1 2", 0)):
        job = decode(text)
        assert (job.tried, job.change and job.change.previous) == (tried, None if b" e" in text else "m1 2")
        assert (again := decode(revived(text, stale=True))).tried == 0
        assert again.late
