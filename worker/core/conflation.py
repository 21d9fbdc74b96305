"""Conflation: the waiting changes of a prospect become one, from its first previous owner to its last one. Pure.

    A -> B, B -> C, C -> D      becomes  A -> D    one call instead of three, which lists the absorbed event ids
    A -> B, B -> A              becomes  nothing   as long as it is certain that the handler has A

What is kept stands where its last member stood, with that one's event: so numbers go on rising, and whatever is cut off
at any point, the calls that a lane leads to end with the same owner of each prospect as its jobs one by one would.

What may have been begun is never joined: the first ``tried`` jobs of a lane, which failed, or were in the hands of a
process that died; and those that a batch left behind. Nor is a job that does not say whose it is, written before its
handler conflated; what comes after it is not joined with what came before it.

That the handler has A is not certain where another change of the prospect was begun, or may be of it and can't be
told, or ended as a dead letter (``unsure``); nor where one is late, as those are that were sent again from the dead
letters or the archive: it may be the first that the handler hears of the prospect. Then the change back to A goes
out, with no known previous owner. A change is late if one of those that it stands for is.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, NamedTuple

from worker.core.changes import kind_of
from worker.core.jobs import LETTERS, Joint, read_joint, write_joint

MOST_ABSORBED: Final = 1000
"""Event ids that one change lists, the newest; or those of a prospect that changes all day would fill the lane."""

COMPACT: Final = "c"


class Waiting(NamedTuple):
    """A job in its lane: its text, and of that what joining takes. Without ``joint`` it can't be joined."""

    text: str
    marks: str = ""
    joint: Joint | None = None

    @property
    def apart(self) -> bool:
        """Whether it was called with others, and has to be called again: overtaken by them, or failed (jobs.py)."""
        return "s" in self.marks or self.marks[-1:].isdigit()

    @property
    def compact(self) -> bool:
        """Whether it has been joined with all of its prospect that stood before it."""
        return COMPACT in self.marks


class Collapsed(NamedTuple):
    """``kept``: where each job that is left stood (its last member did), and what it is now. ``absorbed`` counts those
    that are gone; ``vanished`` names the prospects of which nothing is left, for nothing has changed in the end."""

    kept: list[tuple[int, Waiting]]
    absorbed: int
    vanished: list[str]


def read(text: bytes) -> Waiting:
    """Never raises: what is not understood can't be joined, and is somebody else's trouble."""
    whole = text.decode(errors="surrogateescape")
    try:
        *_, marks, rest = whole.split(" ", 5)
        return Waiting(whole, marks, read_joint(rest) if rest.startswith("+") and not marks.startswith("e") else None)
    except ValueError:
        return Waiting(whole)


def collapse(jobs: Sequence[Waiting], *, tried: int = 0, unsure: Container[str] = ()) -> Collapsed:
    """Join the changes of each prospect among ``jobs``, which are a lane's, from its head.

    The first ``tried`` stay as they are; ``unsure`` are prospects whose changes never vanish.
    """
    apart = [index < tried or job.apart for index, job in enumerate(jobs)]
    in_trouble = {job.joint.prospect for job, is_apart in zip(jobs, apart, strict=True) if is_apart and job.joint}
    kept: list[tuple[int, Waiting]] = []
    groups: list[tuple[list[int], bool]] = []
    latest: dict[str, list[int]] = {}
    unknown = False
    for index, job in enumerate(jobs):
        if job.joint is None or apart[index]:
            kept.append((index, job if index < tried else _compact(job)))
            if job.joint is None:
                unknown = True
                latest.clear()
            else:
                latest.pop(job.joint.prospect, None)
            continue
        prospect = job.joint.prospect
        if prospect not in latest:
            latest[prospect] = []
            groups.append((latest[prospect], not (unknown or prospect in in_trouble or prospect in unsure)))
        latest[prospect].append(index)
    vanished: list[str] = []
    for members, certain in groups:
        joined = _join([jobs[index] for index in members], certain=certain)
        if joined is not None:
            kept.append((members[-1], joined))
        elif (joint := jobs[members[-1]].joint) is not None:
            vanished.append(joint.prospect)
    kept.sort(key=lambda item: item[0])
    return Collapsed(kept, len(jobs) - len(kept), vanished)


def _join(members: Sequence[Waiting], *, certain: bool) -> Waiting | None:
    """One change for all of them, in order; None where nothing has changed in the end."""
    last = members[-1]
    if len(members) == 1:
        return _compact(last)
    known = "k" in members[0].marks
    late = any("l" in job.marks for job in members)
    absorbed: list[str] = []
    for job in members:
        assert job.joint is not None
        absorbed += (*job.joint.absorbed, job.joint.event_id)
    assert members[0].joint is not None
    assert last.joint is not None
    previous, owner = members[0].joint.previous, last.joint.current
    if known and previous == owner:
        if certain and not late:
            return None
        known, previous = False, None
    joint = last.joint._replace(previous=previous, absorbed=tuple(absorbed[:-1][-MOST_ABSORBED:]))
    marks = LETTERS[kind_of(previous, owner, known=known)] + ("k" if known else "")
    marks += "".join(letter for letter in last.marks[1:] if letter not in "kl" + COMPACT)
    return _written(last, marks + ("l" if late else "") + COMPACT, joint)


def _compact(job: Waiting) -> Waiting:
    if job.compact or not job.marks:
        return job
    letters = job.marks.rstrip("0123456789")
    return _written(job, letters + COMPACT + job.marks[len(letters) :], job.joint)


def _written(job: Waiting, marks: str, joint: Joint | None) -> Waiting:
    *place, _, rest = job.text.split(" ", 5)
    return Waiting(
        " ".join([*place, marks, rest if joint is job.joint or joint is None else write_joint(joint)]), marks, joint
    )
