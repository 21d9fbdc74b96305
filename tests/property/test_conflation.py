"""Conflation: whatever waits in a lane, what is left of it ends with the same owners, and nothing else is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.changes import Owner, assignee_change
from worker.core.conflation import Collapsed, Waiting, collapse, read
from worker.core.envelope import Envelope
from worker.core.jobs import Job, decode, encode
from worker.core.sequencing import Arrival, Released

PROSPECTS = ("p", "q r")
OWNERS = ("m1", "m 2", None)


@dataclass(frozen=True)
class Lane:
    """``begun`` says of each of the jobs that were tried whether its call came to anything; none will be made again."""

    jobs: list[Waiting]
    begun: list[bool]
    told: dict[str, str | None]

    @property
    def tried(self) -> int:
        return len(self.begun)

    @property
    def read(self) -> list[Job]:
        return decoded(self.jobs)


@st.composite
def lanes(draw: st.DrawFn) -> Lane:
    """Changes as a sequencer makes them, with some that were sent again, and some of when the handler did not conflate.

    ``told`` is what the handler has of each prospect: its owner, but for those of which it may never have heard.
    """
    known = {p: Owner(0, 0, "", draw(st.sampled_from(OWNERS))) for p in draw(st.sets(st.sampled_from(PROSPECTS)))}
    told = {p: known[p].assignee if p in known else "?" for p in PROSPECTS}
    texts: list[str] = []
    step = st.tuples(st.sampled_from("aaab"), st.sampled_from(OWNERS), st.integers(0, 15))
    for seq, (which, owner, chance) in enumerate(
        draw(st.lists(step, min_size=draw(st.sampled_from([0, 12])), max_size=25)), 1
    ):
        prospect = PROSPECTS[which == "b"]
        event = Envelope(f"e{seq}", seq, "t", "any", None, prospect, owner)
        change = assignee_change(known.get(prospect), event)
        known[prospect] = Owner(seq, 0, event.id, owner)
        if chance == 0:
            known.pop(prospect)  # forgotten
        elif change.kind == "unchanged":
            continue
        late, conflate = chance == 1, chance != 2
        if late:
            told[prospect] = "?"
        failing = not conflate and draw(st.booleans())
        SAYS[f"{seq}-0"] = None if failing else (prospect, owner)
        released = Released(Arrival(event, f"{seq}-0", 0, 7), late, change)
        texts.append(encode(released, shared=chance % 2 == 0, conflate=conflate))
        if (
            chance == 3 and conflate
        ):  # a batch left it behind: some of its calls failed, and nobody knows how the last will
            texts[-1] = texts[-1].replace(" +", "2 +", 1)
            SAYS[f"{seq}-0"] = draw(st.sampled_from([None, (prospect, owner)]))
    begun = draw(st.sampled_from([[], [], [True], [False], [False, True], [True, False, False]]))
    return Lane([read(text.encode()) for text in texts], begun, told)


SAYS: dict[str, tuple[str, str | None] | None] = {}
"""What a job's call tells the handler, by its entry; None where it becomes a dead letter. Of the lane drawn last."""


def decoded(jobs: Sequence[Waiting]) -> list[Job]:
    return [decode(job.text.encode()) for job in jobs]


def ids(job: Job) -> list[str]:
    return [f"e{job.seq}"] if job.joint is None else [*job.joint.absorbed, job.joint.event_id]


def left(collapsed: Collapsed) -> list[Job]:
    return decoded([job for _, job in collapsed.kept])


def told_by(lane: Lane, jobs: Sequence[Waiting]) -> dict[str, str | None]:
    """What a handler has in the end that is called for one job after the other."""
    told = dict(lane.told)
    for index, job in enumerate(decoded(jobs)):
        if index >= lane.tried or lane.begun[index]:
            told |= [said] if (said := SAYS[job.entry]) else []
    return told


@settings(max_examples=200)
@given(lanes(), st.sampled_from([1, 2, 5, 99]))
def test_the_handler_ends_with_the_owners_it_would_have_had(lane: Lane, page: int) -> None:
    """Also when the process dies between two pages, and whatever became of the jobs that were in trouble."""
    expected = told_by(lane, lane.jobs)
    head: list[Waiting] = []
    for start in range(0, len(lane.jobs), page):
        rest = lane.jobs[start + page :]
        head = [job for _, job in collapse(head + lane.jobs[start : start + page], tried=lane.tried).kept]
        assert told_by(lane, head + rest) == expected


@given(lanes())
def test_a_prospect_has_one_job_in_a_stretch_and_numbers_go_on_rising(lane: Lane) -> None:
    after = left(collapse(lane.jobs, tried=lane.tried))
    assert [job.seq for job in after if job.tried] == [job.seq for job in lane.read if job.tried]
    seqs = [job.seq for job in after]
    assert seqs == sorted(seqs)
    assert after[: lane.tried] == lane.read[: lane.tried]
    stretch: set[str] = set()
    for index, job in enumerate(after):
        if job.joint is None:
            stretch = set()
        elif job.tried:
            stretch.discard(job.joint.prospect)
        elif index >= lane.tried:
            assert job.joint.prospect not in stretch
            stretch.add(job.joint.prospect)


@given(lanes())
def test_every_event_is_listed_once_or_cancelled_out(lane: Lane) -> None:
    """And in the order in which it was to come."""
    before, collapsed = lane.read, collapse(lane.jobs, tried=lane.tried)
    after = left(collapsed)
    listed = [name for job in after for name in ids(job)]
    assert len(listed) == len(set(listed))
    gone = {name for job in before for name in ids(job)} - set(listed)
    assert {job.joint.prospect for job in before if job.joint and job.joint.event_id in gone} <= set(collapsed.vanished)
    assert bool(gone) == bool(collapsed.vanished)
    assert len(before) - len(after) == collapsed.absorbed
    for job in after:
        numbers = [int(name[1:]) for name in ids(job)]
        assert numbers == sorted(numbers)
        assert numbers[-1] == job.seq


@given(lanes())
def test_a_change_says_what_was_before_the_first_and_its_kind_fits(lane: Lane) -> None:
    before, after = lane.read, left(collapse(lane.jobs, tried=lane.tried))
    by_id = {job.joint.event_id: job for job in before if job.joint}
    for job in after:
        if job.joint is None or job.change is None:
            continue
        first = by_id[ids(job)[0]]
        assert first.change is not None
        kind, previous, known, _ = job.change
        if known:
            assert (previous, True) == first.change[1:3]
        if len(ids(job)) > 1:
            a, b = (previous if known else None), job.joint.current
            assert kind == ("reassigned" if a and b else "assigned" if b else "unassigned")
            assert not known or a != b
        if not first.change.previous_known:
            assert not known


@given(lanes())
def test_what_is_compact_stays_as_it_is(lane: Lane) -> None:
    once = collapse(lane.jobs, tried=lane.tried)
    jobs = [job for _, job in once.kept]
    assert all(job.compact for job in jobs[lane.tried :])
    again = collapse(jobs, tried=lane.tried)
    assert [job for _, job in again.kept] == jobs
    assert (again.absorbed, again.vanished) == (0, [])
    assert [read(job.text.encode()) for job in jobs] == jobs


@given(lanes())
def test_nothing_vanishes_that_is_not_certain(lane: Lane) -> None:
    collapsed = collapse(lane.jobs, tried=lane.tried, unsure=PROSPECTS)
    assert collapsed.vanished == []
    assert {job.joint.prospect for job in left(collapsed) if job.joint} == {
        job.joint.prospect for job in lane.read if job.joint
    }


def test_no_change_lists_more_than_the_newest_of_what_it_absorbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.core.conflation.MOST_ABSORBED", 3)
    jobs = [read(f'{n}-0 0 1 {n} rk +["m{n}","m{n + 1}","p","e{n}",[]]'.encode()) for n in range(6)]
    (job,) = left(collapse(jobs))
    assert ids(job) == ["e2", "e3", "e4", "e5"]
    assert (job.joint and job.joint.previous) == "m0"


def test_what_cannot_be_read_is_kept_as_it_is() -> None:
    jobs = [read(text) for text in (b"nonsense", b'1-0 0 1 1 rk +["a"]', b"\xff")]
    assert collapse(jobs).kept == list(enumerate(jobs))


def test_a_job_that_does_not_say_whose_it_is_has_the_others_before_or_behind_it() -> None:
    """It may be the same prospect's: what comes before it must not be told after it."""
    jobs = [
        read(text)
        for text in (b'1-0 0 1 1 rk +["a","b","p","e1",[]]', b"2-0 0 1 2 rk =b", b'3-0 0 1 3 rk +["c","d","p","e3",[]]')
    ]
    assert [job.seq for job in left(collapse(jobs))] == [1, 2, 3]
