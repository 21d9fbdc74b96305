"""Invariants 5 and 6: nothing waits for another's trouble, and whatever is due moves within seconds of a fault.

A job is due once its event was answered 202 and the job before it in its lane has ended. From then until it is called,
and again from each call that did not succeed, it waits. Of that time what lies within a fault does not count; a
stretch of the rest that is longer than the bound is a job that was forgotten (6), or, where calls that hang were under
way for most of it, one that had to wait for them (5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.chaos.check_books import owed, released_order
from tests.chaos.history import Call, Finding, History, Terms

HANGS: Final = 3.0  # seconds from which on a call is one that others must not wait for
MOSTLY: Final = 0.8


@dataclass(frozen=True)
class Bounds:
    """Seconds. ``progress``: twice what is promised, for machines that have other things to do as well."""

    progress: float = 20.0
    isolation: float = 10.0


class Wait(NamedTuple):
    """A job that is due waits from ``begin`` to ``end``, undisturbed by faults."""

    handler: str
    key: str
    begin: float
    end: float

    def __str__(self) -> str:
        return f"{self.handler} {self.key} waited {self.end - self.begin:.1f} s from {self.begin:.3f}"


def isolation(history: History, bounds: Bounds) -> Finding:
    hanging = hanging_calls(history)
    evidence = [
        f"{wait}, while {call} was under way"
        for wait in waits(history)
        if wait.end - wait.begin > bounds.isolation and (call := _hanging_beside(hanging, wait))
    ]
    troubled = len(hanging) + sum(call.outcome == "failed" for call in history.calls) + len(history.books.dead)
    return Finding(5, "isolation", f"{troubled} calls that hung or failed, beside {len(history.calls)}", evidence)


def progress(history: History, bounds: Bounds) -> Finding:
    hanging = hanging_calls(history)
    evidence = [
        str(wait)
        for wait in waits(history)
        if wait.end - wait.begin > bounds.progress and not _hanging_beside(hanging, wait)
    ]
    evidence += _never_accepted(history)
    evidence += _refused_for_nothing(history, bounds)
    if history.books.unfinished:
        evidence.append(f"{history.books.unfinished} deliveries and jobs were unfinished in the end")
    return Finding(6, "progress", f"every wait of {len(history.accepted_events)} events, by handler", evidence)


def waits(history: History) -> Iterator[Wait]:
    """Every stretch in which a job was due and nothing was broken."""
    released = released_order(history)
    known = {event.key for event in released}
    lost = [
        event for event in history.accepted_events if event.key not in known and event.key not in history.books.too_old
    ]
    everybodys = disturbances(history)
    for terms in history.handlers:
        faults = sorted([*everybodys, *history.nobody.get(terms.name, ())])
        if terms.conflates:
            continue  # what it is called for is not known beforehand
        wanted = {event.key: event for event in owed(released, changes=terms.changes)}
        if not terms.changes:
            wanted |= {event.key: event for event in lost}
        called: set[str] = set()
        for calls in history.lanes(terms).values():
            free = history.began
            by_key: dict[str, list[Call]] = {}
            for call in calls:
                by_key.setdefault(call.key, []).append(call)
            for key, group in by_key.items():
                called.add(key)
                due = max(free, history.accepted_at.get(key, group[0].start))
                for begin, end in _idle(history, terms, due, group):
                    yield from (Wait(terms.name, key, *part) for part in undisturbed(begin, end, faults))
                free = max((call.end for call in group if call.end is not None), default=group[-1].start)
        for key in wanted.keys() - called:
            due = history.accepted_at.get(key, history.ended)
            yield from (Wait(terms.name, key, *part) for part in undisturbed(due, history.ended, faults))


def _idle(history: History, terms: Terms, due: float, group: Sequence[Call]) -> Iterator[tuple[float, float]]:
    """The times at which a job that was called by ``group`` waited, until it was done."""
    for call in group:
        if call.start > due:
            yield due, call.start
        if call.outcome == "done":
            return
        due = call.end if call.end is not None else call.start
    if (terms.name, group[0].key) not in set(history.books.dead):
        yield due, history.ended


def disturbances(history: History) -> list[tuple[float, float]]:
    """When work could not be expected to go on, by time. What happens to one process ends at once: others go on."""
    return sorted((fault.begin, fault.begin if fault.pids else fault.end) for fault in history.faults)


def undisturbed(begin: float, end: float, times: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """What is left of a time without ``times``, which are in the order of their beginnings."""
    for since, until in times:
        if since >= end:
            break
        if until > begin:
            if since > begin:
                yield begin, since
            begin = until
    if begin < end:
        yield begin, end


def hanging_calls(history: History) -> list[Call]:
    return [call for call in history.calls if call.end is not None and call.end - call.start > HANGS]


def _hanging_beside(hanging: Sequence[Call], wait: Wait) -> Call | None:
    """A call that hung for most of a wait: of the same handler, if there is one."""
    length = wait.end - wait.begin
    beside = [
        call
        for call in hanging
        if call.end is not None
        and call.key != wait.key
        and min(wait.end, call.end) - max(wait.begin, call.start) > MOSTLY * length
    ]
    return min(beside, key=lambda call: call.handler != wait.handler, default=None)


def _never_accepted(history: History) -> Iterator[str]:
    tried = {post.key for post in history.posts}
    for message in history.messages:
        if message.kind != "unsigned" and message.key in tried and message.key not in history.accepted_at:
            yield f"{message.key} was posted and never accepted"


def _refused_for_nothing(history: History, bounds: Bounds) -> Iterator[str]:
    """A post that was refused, or not answered, though nothing had been broken for long."""
    faults = sorted(history.faults, key=lambda fault: fault.begin)
    signed = {message.key for message in history.messages if message.kind != "unsigned"}
    for post in history.posts:
        if post.status == 202 or post.key not in signed:
            continue
        since = max((fault.end for fault in faults if fault.begin <= post.answered), default=history.began)
        if post.sent - since > bounds.progress:
            answer = f"{post.status or 'nothing'} at {post.answered:.3f}"
            yield f"{post.key} was answered {answer}, long after the last fault"
