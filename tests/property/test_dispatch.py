"""Dispatching: whatever handlers there are and however they are ordered, each lane has its events in release order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from worker.core import archive
from worker.core.changes import Change, ChangeKind
from worker.core.dispatch import ARCHIVED, Route, Terms, dispatch
from worker.core.envelope import Envelope
from worker.core.jobs import Job, decode, encode
from worker.core.lanes import ORDERS, team_of
from worker.core.sequencing import Arrival, Released

TYPES = ("prospect.assigneeChanged", "message.created", "tag.created")
CHANGED = Change(ChangeKind.REASSIGNED, "m 1", previous_known=True)


@st.composite
def releases(draw: st.DrawFn) -> list[Released]:
    """Events of a few teams and prospects, some without a prospect, in any order of numbers."""
    made = []
    for number in range(draw(st.integers(0, 20))):
        prospect = draw(st.sampled_from(["p", "q", "a:p", None]))
        event = Envelope(
            f"e{number}", draw(st.integers(0, 9)), draw(st.sampled_from(["a", "a:p", "b%"])),
            draw(st.sampled_from(TYPES)), None, prospect, "m2",
        )  # fmt: skip
        made.append(Released(Arrival(event, f"{number}-0", 0, 5), False, None if prospect is None else CHANGED))
    return made


@st.composite
def routes(draw: st.DrawFn) -> Route:
    terms = [Terms(name, draw(st.sampled_from(ORDERS)), draw(st.booleans())) for name in ("crm", "mail", "audit")]
    wanted = {kind: [each for each in terms if draw(st.booleans())] for kind in TYPES}
    return lambda kind, _: wanted[kind]


def same_line(terms: Terms, one: Released, other: Released) -> bool:
    """Whether the order of two events is the handler's business, said without a word of lanes."""
    a, b = one.arrival.event, other.arrival.event
    match terms.order_by:
        case "team":
            return a.team == b.team
        case "prospect":
            return (a.team, a.prospect) == (b.team, b.prospect)
    return one is other


@given(releases(), routes())
def test_every_lane_has_its_events_once_and_in_the_order_of_their_release(
    released: list[Released], route: Route
) -> None:
    made = dispatch(released, route)
    place: dict[tuple[str, str], tuple[str, int]] = {}  # (handler, entry) -> its lane, and where in it
    read: dict[tuple[str, str], Job] = {}
    for (handler, lane), texts in made.lanes.items():
        for index, text in enumerate(texts):
            job = decode(text.encode())
            assert (handler, job.entry) not in place
            place[handler, job.entry], read[handler, job.entry] = (lane, index), job
    wanted = [(terms, item) for item in released for terms in route(item.arrival.event.type, item.change)]
    assert set(place) == {(terms.name, item.arrival.entry) for terms, item in wanted}
    for terms, item in wanted:
        lane, index = place[terms.name, item.arrival.entry]
        assert team_of(lane) == item.arrival.event.team
        job = read[terms.name, item.arrival.entry]
        assert (job.joint is not None) == (terms.conflate and item.change is not None)
        for again, later in wanted:
            if again is terms and same_line(terms, item, later):
                other_lane, other_index = place[terms.name, later.arrival.entry]
                assert other_lane == lane
                assert (other_index > index) == (released.index(later) > released.index(item))
            elif again is terms:
                assert place[terms.name, later.arrival.entry][0] != lane


@given(releases(), routes())
def test_bodies_and_books_follow_what_is_wanted(released: list[Released], route: Route) -> None:
    made = dispatch(released, route)
    takers = {item.arrival.entry: route(item.arrival.event.type, item.change) for item in released}
    assert made.unwanted == [entry for entry, terms in takers.items() if not terms]
    assert made.users == {entry: len(terms) for entry, terms in takers.items() if len(terms) > 1}
    routed = Counter(f"routed:{each.name}" for terms in takers.values() for each in terms)
    stored = len(released) - len(made.unwanted)
    assert +made.counts == routed + Counter({"stored": stored} if stored else {})
    assert made.archive == []


@given(releases(), routes())
def test_the_archive_keeps_every_body_and_names_who_got_it(released: list[Released], route: Route) -> None:
    made = dispatch(released, route, archived_at=77)
    assert made.unwanted == []
    for item, text in zip(released, made.archive, strict=True):
        event, entry, *_ = item.arrival
        terms = route(event.type, item.change)
        record = archive.decode(text.encode())
        assert (record.mark, record.released) == (archive.index_mark(event.id), 77)
        assert record.handlers == [each.name for each in terms]
        assert record.job == decode(encode(item, shared=True).encode())
        assert made.users.get(entry) == (ARCHIVED + len(terms) if terms else None)
    jobs = [decode(text.encode()) for texts in made.lanes.values() for text in texts]
    assert all(job.shared for job in jobs)
    assert made.counts["kept"] == len(released) - len({job.entry for job in jobs})
    assert made.counts["archive_bytes"] == 5 * len(released)


def test_handlers_of_a_kind_share_one_text() -> None:
    """Writing a job is what dispatching costs; plain handlers, the usual ones, share it."""
    event = Envelope("e", 1, "t", TYPES[0], None, "p", "m2")
    item = Released(Arrival(event, "1-0", 0, 5), False, CHANGED)
    terms = [Terms("a"), Terms("b", "prospect"), Terms("c", "team", True), Terms("d", "prospect", True)]
    made = dispatch([item], lambda *_: terms)
    a, b, c, d = (texts[0] for texts in made.lanes.values())
    assert a is b
    assert c is d
    assert (a, c) == (encode(item, shared=True), encode(item, shared=True, conflate=True))
