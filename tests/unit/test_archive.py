"""Records of the archive, as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import archive, jobs
from worker.core.changes import Change, ChangeKind
from worker.core.envelope import Envelope
from worker.core.sequencing import Arrival, Released

NAMES = st.lists(st.text("abc_.-", min_size=1, max_size=9).filter(lambda name: name != "-"), max_size=3)


@given(st.text(max_size=60), NAMES, st.integers(0, 2**45), st.text(max_size=9) | st.none(), st.booleans())
def test_a_record_says_what_was_put_in(event_id: str, names: list[str], now: int, previous: str, late: bool) -> None:
    event = Envelope(event_id, 7, "t", "prospect.assigneeChanged", None, "p", "m")
    change = Change(ChangeKind.REASSIGNED, previous, previous_known=True)
    released = Released(Arrival(event, "5-1", 5, 99), late, change)
    job = jobs.encode(released, shared=True)
    text = archive.encode(event_id, names, now, job).encode("utf-8", "surrogatepass")
    record = archive.decode(text)
    assert record == (archive.index_mark(event_id), names, now, jobs.decode(job.encode()), job)
    assert archive.text_of(record).encode() == text


@pytest.mark.parametrize("event_id", ["cmgev1aaaa0001l104xyz9abcd", "8f14e45f-ceea-467f-a9f0-7d1c3b2a0001", "evt:1"])
def test_an_ordinary_id_is_its_own_mark(event_id: str) -> None:
    assert archive.index_mark(event_id) == event_id


@given(st.text(max_size=80))
def test_a_mark_is_one_short_word(event_id: str) -> None:
    mark = archive.index_mark(event_id)
    assert mark.split() == [mark]
    assert 0 < len(mark) <= archive.LONGEST_MARK


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_ids_have_two_marks(one: str, other: str) -> None:
    assert (archive.index_mark(one) == archive.index_mark(other)) == (one == other)
