"""Bodies nobody should have sent: read as plain JSON says, or ``Unreadable`` with a word of the list; nothing else."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import reference
from tests.fuzz.hostile import NASTY_IDS, bodies, documents
from tests.fuzz.profile import examples
from worker.core import envelope
from worker.core.envelope import ASSIGNMENTS, MAX_ID, MAX_SEQ, Envelope, Unreadable, read, team_of

assert envelope.Unreadable.__doc__ is not None
REASONS = set(re.findall(r"``(\w+)``", envelope.Unreadable.__doc__)) - {"reason", "detail"}
url_teams = st.none() | st.sampled_from(["t1", "own", *(team for team in NASTY_IDS if team)])


def outcome(body: bytes, url_team: str | None) -> Envelope | Unreadable:
    try:
        return read(body, url_team)
    except Unreadable as error:
        return error


@examples(250)
@given(bodies, url_teams)
def test_what_is_read_is_what_the_json_says(body: bytes, url_team: str | None) -> None:
    found = outcome(body, url_team)
    if isinstance(found, Unreadable):
        assert found.reason in REASONS
        assert len(found.detail) < 200
        return
    document = reference.parsed(body)
    assert (found.id, found.seq, found.type) == (document["id"], document["seq"], document["type"])
    assert found.team == (url_team if url_team is not None else document["teamId"])
    assert found.team == team_of(body, url_team), "the front door chooses the partition by the same team"
    assert type(found.seq) is int
    assert 0 <= found.seq <= MAX_SEQ
    for text in (found.id, found.team, found.type, found.prospect, found.assignee):
        assert text is None or len(text) <= MAX_ID
        assert text is None or text.encode() is not None, "no half of a surrogate pair: all is written as UTF-8"
    assert found.id
    assert found.team
    _check_owner(found, document)


def _check_owner(found: Envelope, document: dict[str, Any]) -> None:
    if found.prospect is None:
        assert found.assignee is None
        return
    assert found.type in ASSIGNMENTS
    where = {
        "prospect.assigneeChanged": ("data", "prospect", "context", "assigneeId"),
        "contact.assigneeChanged": ("data", "assigneeId"),
    }.get(found.type, ("data", "thread", "assigneeId"))
    assert found.assignee == (reference.text_of(document, *where) or None)
    assert where[-1] in reference.text_of(document, *where[:-1]), "absent is no news"
    if found.type == "contact.assigneeChanged":
        assert found.prospect == reference.text_of(document, "object", "id")
        return
    prospect = reference.text_of(document, *where[:1], *(("thread",) if "thread" in where else ()), "prospect")
    own = prospect.get("externalId")
    if isinstance(own, str) and own:
        assert found.prospect == own
    else:
        assert found.prospect == f"{prospect.get('platform')}:{prospect['platformId']}"


@examples(150)
@given(documents(), url_teams)
def test_what_is_a_plain_event_is_read(body: bytes, url_team: str | None) -> None:
    """The other way round: an event whose envelope is as documented never ends in quarantine for what else it holds."""
    try:
        document = reference.parsed(body, doubled=False)
    except reference.NotJson:
        return
    if not isinstance(document, dict) or document.get("type") in [*ASSIGNMENTS]:
        return
    seq, team = document.get("seq"), document.get("teamId") if url_team is None else url_team
    texts = [document.get("id"), document.get("type"), team]
    others = [document.get(name) for name in ("teamId", "timestamp", "createdAt")]
    whole = (
        type(seq) is int
        and 0 <= seq <= MAX_SEQ
        and all(isinstance(text, str) and 0 < len(text) <= MAX_ID for text in texts)
        and all(text is None or isinstance(text, str) for text in others)
        and (url_team is None or not document.get("teamId") or document["teamId"] == url_team)
    )
    found = outcome(body, url_team)
    if whole and isinstance(found, Unreadable):
        # Only what a handler could not read either: numbers without end, halves of surrogate pairs, nesting too deep.
        assert found.reason == "not_json", (found, body[:300])
        assert any(mark in body.lower() for mark in (b"\\ud", b"9" * 300, b"1e999", b"[" * 900, b'{"a":' * 900))


@examples(200)
@given(bodies, url_teams)
def test_the_front_door_s_look_never_fails(body: bytes, url_team: str | None) -> None:
    team = team_of(body, url_team)
    assert team is None or isinstance(team, str)
    if url_team is not None:
        assert team == url_team
