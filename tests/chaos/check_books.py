"""Invariant 1: whatever was answered 202 is accounted for, and the books add up.

What each handler has to be called for is worked out here once more, by rules of our own, from the order in which the
events were released: that is the order of the first calls of a handler that gets them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.history import Finding, History, Message, Terms


def conservation(history: History) -> Finding:
    evidence = [*_audit(history), *_deliveries(history), *_odd_ones(history)]
    released = released_order(history)
    expected = 0
    for terms in history.handlers:
        wanted = owed(released, changes=terms.changes)
        if not terms.changes:
            wanted = [event for event in history.accepted_events if event.key not in history.books.too_old]
        expected += len(wanted)
        evidence += _handler(history, terms, wanted)
    accepted = sum(post.status == 202 for post in history.posts)
    checked = f"{accepted} deliveries answered 202, of {len(history.accepted_at)} messages; {expected} jobs"
    return Finding(1, "conservation", checked, evidence)


def released_order(history: History) -> list[Message]:
    """The events in the order in which they were released, team by team."""
    every = next((terms.name for terms in history.handlers if not terms.changes), None)
    first = dict.fromkeys(call.key for call in history.calls_of.get(every or "", []))
    return [history.message[key] for key in first if key in history.message]


def owed(released: Sequence[Message], *, changes: bool) -> list[Message]:
    """The events that a handler is to be called for: all, or those that change an owner and are not overtaken."""
    if not changes:
        return list(released)
    found = []
    owners: dict[tuple[str, str | None], tuple[tuple[int, int, str], str | None]] = {}
    for event in released:
        if not event.names_owner:
            continue
        place = (event.seq, event.at_ms, event.key)
        known = owners.get((event.team, event.prospect))
        if known is not None and known[0] > place:
            continue
        if known is None or known[1] != event.assignee:
            found.append(event)
        owners[event.team, event.prospect] = (place, event.assignee)
    return found


def _audit(history: History) -> Iterator[str]:
    yield from history.books.audit
    if history.books.unfinished:
        yield f"{history.books.unfinished} deliveries and jobs are unfinished"


def _deliveries(history: History) -> Iterator[str]:
    """Every 202 is a stored delivery; and of each event one is released, and the others are duplicates."""
    accepted = sum(post.status == 202 for post in history.posts)
    if accepted > history.books.accepted:
        yield f"{accepted} deliveries were answered 202, and {history.books.accepted} are stored"
    posted = sum(post.status != 401 for post in history.posts)
    if history.books.accepted > posted:
        yield f"{history.books.accepted} deliveries are stored, and {posted} were posted"


def _odd_ones(history: History) -> Iterator[str]:
    """Bodies that can't be read are in the quarantine as often as they were accepted; the unsigned are nowhere."""
    answers = Counter(post.key for post in history.posts if post.status == 202)
    kept = Counter(history.books.quarantined)
    called = {call.key for call in history.calls}
    for message in history.messages:
        if message.kind == "unreadable" and kept[message.body] < answers[message.key]:
            times = f"{answers[message.key]} times and is quarantined {kept[message.body]} times"
            yield f"{message.key} was accepted {times}"
        if message.kind == "unsigned" and (answers[message.key] or kept[message.body] or message.key in called):
            yield f"{message.key} has no signature and was accepted"


def _handler(history: History, terms: Terms, wanted: Sequence[Message]) -> Iterator[str]:
    dead = {key for handler, key in history.books.dead if handler == terms.name}
    calls = history.calls_of.get(terms.name, [])
    succeeded = {call.key for call in calls if call.outcome == "done"}
    absorbed = {key for call in calls if call.outcome == "done" for key in call.absorbed}
    missing = [event for event in wanted if event.key not in succeeded | dead | absorbed]
    count = history.books.counts.get
    if terms.conflates:
        # What cancels out, from A to B to A, is told to nobody; its number is in the ledger.
        spare = count(f"conflated:{terms.name}", 0) - len(absorbed - succeeded)
        if len(missing) > spare:
            yield f"{terms.name} was not called for {len(missing)} events, {spare} of which cancelled out"
        return
    for event in missing:
        yield f"{terms.name} was never called to success for {event.key} ({event.team} {event.seq}), accepted at " + (
            f"{history.accepted_at[event.key]:.3f}" if event.key in history.accepted_at else "no time that is known"
        )
    done = count(f"done:{terms.name}", 0)
    if done < len(succeeded - dead):
        yield f"{terms.name} succeeded for {len(succeeded - dead)} events, and the ledger counts {done}"
