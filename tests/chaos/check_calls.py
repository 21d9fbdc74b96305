"""Invariants 2, 3 and 4: the order of calls, their uniqueness, and what they leave behind.

2  the first calls of a lane's jobs start in seq order, but for those marked late, and none starts before the job
   before it has ended
3  a job is called again only if its call before failed or was cut, or if something happened to that call's process,
   to the server or to the network before its success was certainly written; and the ledger counts it done once
4  the last call for a prospect has the assignee of its highest seq
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.chaos.history import FOREVER, Call, Fault, Finding, History, Message, Terms

SETTLED: Final = 3.0
"""Seconds after its end in which a call's success is written if nothing is in the way, on a loaded machine too."""


def order(history: History) -> Finding:
    evidence: list[str] = []
    lanes = 0
    for terms in history.handlers:
        for calls in history.lanes(terms).values():
            lanes += 1
            evidence += _first_calls_out_of_order(calls)
            evidence += _calls_before_their_turn(history, calls)
    return Finding(2, "order", f"{lanes} lanes, {len(history.calls)} calls", evidence)


def _first_calls_out_of_order(calls: Sequence[Call]) -> Iterator[str]:
    seen: set[str] = set()
    highest: Call | None = None
    for call in calls:
        if call.key not in seen and not call.late:
            if highest is not None and call.seq < highest.seq:
                yield f"{call} comes after {highest} and is not marked late"
            elif highest is None or call.seq > highest.seq:
                highest = call
        seen.add(call.key)


def _calls_before_their_turn(history: History, calls: Sequence[Call]) -> Iterator[str]:
    """Each job against the one that was first called before it: that one has to be over. A batch is one call."""
    dead = set(history.books.dead)
    ends: dict[str, list[Call]] = {}
    for call in calls:
        ends.setdefault(call.key, []).append(call)
    before: Call | None = None
    seen: set[str] = set()
    for call in calls:
        if call.key in seen:
            continue
        seen.add(call.key)
        if before is not None and not _over(ends[before.key], call, dead=(call.handler, before.key) in dead):
            yield f"{call} starts before {before} is over"
        before = call


def _over(calls: Sequence[Call], by: Call, *, dead: bool) -> bool:
    if by.handler == "batched":  # the changes of one call begin together; those of different calls do not
        return True
    return any(c.end is not None and c.end <= by.start and (c.outcome == "done" or dead) for c in calls) or (
        dead and all(c.outcome == "cut" for c in calls if c.start < by.start)
    )


def uniqueness(history: History) -> Finding:
    evidence: list[str] = []
    repeats = 0
    for terms in history.handlers:
        latest: dict[str, Call] = {}
        for call in history.calls_of.get(terms.name, []):
            before = latest.get(call.key)
            if before is not None:
                repeats += 1
                failed = before.outcome == "failed" and before.end is not None and before.end <= call.start
                if not failed and not any(_excuses(fault, before, call) for fault in history.faults):
                    evidence.append(f"{call} repeats {before}, and nothing happened in between")
            latest[call.key] = call
        evidence += _done_too_often(history, terms)
    return Finding(3, "uniqueness", f"{len(history.calls)} calls, of which {repeats} are repeats", evidence)


def _excuses(fault: Fault, before: Call, call: Call) -> bool:
    """Whether ``fault`` may have kept the success of ``before`` from being written, so that ``call`` had to be."""
    if not fault.crash or (fault.pids and before.pid not in fault.pids):
        return False
    end = before.end if before.end is not None else FOREVER
    return fault.begin <= min(end + SETTLED, call.start) and fault.end >= before.start


def _done_too_often(history: History, terms: Terms) -> Iterator[str]:
    succeeded = {call.key for call in history.calls_of.get(terms.name, []) if call.outcome == "done"}
    done = history.books.counts.get(f"done:{terms.name}", 0)
    if done > len(succeeded):
        yield f"the ledger counts {done} successes of {terms.name}, which succeeded for {len(succeeded)} events"


def convergence(history: History) -> Finding:
    evidence: list[str] = []
    # What was called for was stored, whether the provider knows it or not.
    called = {call.key for call in history.calls}
    newest = _newest_owners([m for m in history.messages if m.key in called or m.key in history.accepted_at])
    dead = set(history.books.dead)
    prospects = 0
    for terms in history.handlers:
        if not terms.changes:
            continue
        last: dict[tuple[str, str], Call] = {}
        for call in history.calls_of.get(terms.name, []):
            if call.outcome == "done" and call.prospect is not None and not call.stale:
                last[call.team, call.prospect] = call
        for prospect, event in newest.items():
            if (terms.name, event.key) in dead or event.key in history.books.too_old:
                continue
            call = last.get(prospect)
            prospects += 1
            if call is None:
                # Never told of a change: right where everything was conflated away, else conservation says so.
                continue
            if call.assignee != event.assignee:
                evidence.append(
                    f"{'/'.join(prospect)} has {event.assignee} since {event.key} (seq {event.seq}), and the last call "
                    f"says {call.assignee}: {call}"
                )
    return Finding(4, "convergence", f"{prospects} prospects, told to {len(history.handlers)} handlers", evidence)


def _newest_owners(events: Sequence[Message]) -> dict[tuple[str, str], Message]:
    newest: dict[tuple[str, str], Message] = {}
    for event in events:
        if event.names_owner and event.prospect is not None:
            known = newest.get((event.team, event.prospect))
            if known is None or (known.seq, known.at_ms, known.key) < (event.seq, event.at_ms, event.key):
                newest[event.team, event.prospect] = event
    return newest
