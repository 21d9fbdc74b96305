"""What a handler gets of hostile events: everything can be asked for, and what can't be read fails as documented."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.hostile import bodies, documents
from tests.fuzz.profile import examples
from worker import AssigneeChange, Event
from worker.core import jobs
from worker.core.changes import Change, ChangeKind, kind_of
from worker.core.envelope import Envelope, Unreadable, read
from worker.core.models import Wire, parse
from worker.core.sequencing import Arrival, Released, fingerprint

url_teams = st.none() | st.just("own:team")


def released(body: bytes, url_team: str | None) -> Envelope | None:
    """The envelope of what would come as far as a handler."""
    try:
        return read(body, url_team)
    except Unreadable:
        return None


@examples(150)
@given(documents(), url_teams)
def test_a_handler_can_ask_for_everything(body: bytes, url_team: str | None) -> None:
    envelope = released(body, url_team)
    if envelope is None:
        return
    event = Event(body, team_id=envelope.team, seq=envelope.seq)
    assert (event.id, event.team_id, event.type) == (envelope.id, envelope.team, envelope.type)
    assert event.occurred_at is None or event.occurred_at.tzinfo
    assert isinstance(event.document, dict)
    assert isinstance(event.data, dict)
    assert isinstance(event.model, Wire)
    assert repr(event)
    if envelope.prospect is not None:
        change = AssigneeChange(event, kind=kind_of(None, envelope.assignee, known=False))
        assert change.prospect.key == envelope.prospect
        assert change.assignee_id == envelope.assignee
        prospect = change.prospect
        shown = (prospect.username, prospect.display_name, prospect.profile_url, prospect.external_id)
        assert all(text is None or isinstance(text, str) for text in shown)
        assert isinstance(prospect.context, dict)
        assert json.loads(json.dumps(change.as_dict()))["seq"] == envelope.seq, "it can be sent on to another task"
        assert repr(change)
        assert repr(prospect)
    assert fingerprint(envelope.team, envelope.id)


@examples(150)
@given(bodies)
def test_a_model_is_made_of_any_object_and_shows_nobody(body: bytes) -> None:
    try:
        model = parse(body)
    except ValueError as error:
        said = str(error)
    else:
        _look_at_all_of(model)
        assert "Sarah" not in repr(model)
        model.model_dump(exclude_unset=True)
        return
    assert said in ("the body is not JSON", "the body is not a JSON object")


def _look_at_all_of(model: Wire) -> None:
    for name in type(model).model_fields:
        value: Any = getattr(model, name)
        model.has(name)
        if isinstance(value, Wire):
            _look_at_all_of(value)


entries = st.builds("{}-{}".format, st.integers(0, 2**48), st.integers(0, 2**32))
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40) | st.sampled_from(
    ["a b", "=", "+", "+[", "=m 1", " ", "\n", "\0", '"', "\\", "e", "0", "é\u2028"]
)
events = st.builds(
    Envelope, ids, st.integers(0, 2**53 - 1), ids, ids, st.none() | st.integers(0, 2**45), ids, st.none() | ids
)
changes = st.none() | st.builds(Change, st.sampled_from([*ChangeKind]), st.none() | ids, st.booleans(), st.booleans())


@examples(150)
@given(events, entries, st.integers(0, 2**31), st.booleans(), changes, st.booleans(), st.booleans())
def test_a_job_comes_back_as_it_was_written(
    event: Envelope, entry: str, size: int, late: bool, change: Change | None, shared: bool, conflate: bool
) -> None:
    text = jobs.encode(Released(Arrival(event, entry, 0, size), late, change), shared=shared, conflate=conflate)
    assert text.split(" ")[:4] == [entry, "1" if shared else "0", str(size), str(event.seq)], "what the scripts read"
    job = jobs.decode(text.encode())
    assert (job.entry, job.shared, job.size, job.seq, job.late) == (entry, shared, size, event.seq, late)
    if change is None:
        assert (job.change, job.joint) == (None, None)
        return
    known = change.previous if change.previous_known or conflate else None
    assert job.change == Change(change.kind, known, change.previous_known, change.stale)
    if conflate:
        assert job.joint == (change.previous, event.assignee, event.prospect, event.id, ())
    for stale in (False, True):
        again = jobs.decode(jobs.revived(text.encode(), stale=stale))
        assert again.change is not None
        assert again.late
        assert again.change.stale is (stale or change.stale)
        assert again.change.previous == job.change.previous
