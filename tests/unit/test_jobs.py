"""Jobs as text: whatever goes in comes out, and nothing else is taken for a job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.changes import Change, ChangeKind
from worker.core.envelope import MAX_SEQ, Envelope
from worker.core.jobs import Job, decode, encode
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


def test_the_scripts_find_entry_sharing_and_size_as_the_first_words() -> None:
    event = Envelope("e", 9, "t", "any", None, "p", "b")
    change = Change(ChangeKind.REASSIGNED, "a b", previous_known=True)
    text = encode(Released(Arrival(event, "5-1", 0, 77), False, change), shared=True)
    assert text == "5-1 1 77 9 rk =a b"


@pytest.mark.parametrize(
    "text",
    [b"", b"5-1", b"5-1 0 1 9 a", b"5-1 0 1 9  ", b"5-1 0 1 9 z ", b"5-1 0 1 x a ", b"5-1 0 x 9 a ", b"\xff 0 1 9 a "],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, it is a ValueError
        decode(text)
