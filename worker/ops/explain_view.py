"""The life of an event on one screen: a sentence, then what happened when, then each handler."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.ops import tables
from worker.ops.explaining import Explanation, HandlerStory, Story, reason, verdict
from worker.store.pages import address

Line = tuple[int | None, str]

BAD = frozenset({"dead", "dropped"})


def view(explanation: Explanation, *, text: bool) -> RenderableType:
    if not explanation.stories:
        return _nothing(explanation)
    parts: list[RenderableType] = []
    for story in explanation.stories:
        parts += [Text("")] if parts else []
        parts += [_head(story), Text(""), _times(story)]
        if story.handlers:
            parts += [Text(""), _handlers(story, text=text)]
    return Group(*parts)


def _nothing(explanation: Explanation) -> Text:
    known = tables.cell(explanation.event_id).plain
    if explanation.whole:
        return Text(f"Nothing here knows of {known}: it never arrived, or all has ended and it is out of the archive.")
    return Text(f"{known} is not among the newest: there is more than was looked through. Name its team with --team.")


def _head(story: Story) -> Text:
    located = story.located
    about = ""
    if located is not None:
        event = located.event
        about = f"  {event.type} · team {event.team} · seq {event.seq} · {tables.size(located.size)}"
    return Text.assemble(
        tables.cell(story.event_id, "bold"), tables.cell(about), "\n", tables.cell(verdict(story), "yellow")
    )


def _times(story: Story) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    start = story.received
    for at, words in sorted(_lines(story), key=lambda line: (line[0] is None, line[0])):
        after = "" if at is None or at == start else f"+{tables.age(at - start)}" if at > start else ""
        grid.add_row(
            tables.cell("now" if at is None else tables.moment(at), "dim"),
            tables.cell(after, "dim"),
            tables.cell(words),
        )
    return grid


def _lines(story: Story) -> Iterator[Line]:
    located, record, hold = story.located, story.record, story.hold
    place = "" if located is None else f" ({located.keys.partition}:{located.entry})"
    yield story.received, f"received{place}"
    for at in story.duplicates:
        yield at, "delivered again: a duplicate, dropped"
    for item in story.quarantined:
        yield item.at, f"set aside: {item.reason}; see `handoff quarantine show {address(item)}`"
    if located is not None and located.first_missing is not None and hold is None:
        missing = located.first_missing
        why = "first contact with its team" if missing == "-" else _gap(int(missing), located.event.seq)
        until = "" if record is None else f", for {tables.age(record.released - story.received)}"
        yield story.received, f"held{until}: {why}"
    if record is not None:
        yield record.released, f"released{', late' if story.late else ''}{_change(story)}"
    elif story.place == "released":
        yield None, f"released (the archive has no record of when){_change(story)}"
    if hold is not None:
        yield None, "held"
    if story.place == "unread":
        yield None, "not read yet"


def _gap(first: int, seq: int) -> str:
    """Of what was missing below it, the first number is known."""
    return f"{first} was missing" if first == seq - 1 else f"numbers from {first} on were missing"


def _change(story: Story) -> str:
    change, located = story.change, story.located
    if change is None or located is None:
        return ": no change of an owner"
    previous = (change.previous or "nobody") if change.previous_known else "unknown"
    stale = "; stale: a newer change of the prospect was released before" if change.stale else ""
    return f": {change.kind.value}, {previous} -> {located.event.assignee or 'nobody'}, {located.event.prospect}{stale}"


def _handlers(story: Story, *, text: bool) -> Table:
    shown = tables.table("handler", "state", "when", "tries", "what", numbers=["tries"])
    for handler in story.handlers:
        style = "red" if handler.state in BAD else "yellow" if handler.waiting else "green"
        when, tries, what = _handler(handler, story)
        shown.add_row(
            tables.cell(handler.name, "cyan"),
            tables.cell(handler.state, style),
            tables.cell(when),
            tables.cell(tries),
            tables.cell(what),
        )
        for attempt in handler.waiting.failed if handler.waiting else ():
            words = f"attempt {attempt.number}: {attempt.error}" + (f": {attempt.text}" if text else "")
            shown.add_row(
                "", "", tables.cell(tables.moment(attempt.at), "dim"), "", tables.cell(_of_whom(handler) + words, "dim")
            )
    return shown


def _handler(handler: HandlerStory, story: Story) -> tuple[str | None, int | None, str]:
    waiting, dead, end = handler.waiting, handler.dead, handler.end
    if waiting is not None:
        return None, len(waiting.failed) if not waiting.ahead else None, reason(handler, story.now)
    if dead is not None:
        return tables.moment(dead.at), dead.attempts, f"{dead.error}; see `handoff dead show {address(dead)}`"
    if end is not None:
        words = {
            "conflated": "joined with other changes of its prospect, or cancelled out by them",
            "dropped": "given up, and dropped by a person",
        }
        after = f"+{tables.age(end.at - story.received)} after it was received"
        return tables.moment(end.at), end.attempts or None, words.get(end.outcome, after)
    return None, None, "its job has ended; how is not known any more"


def _of_whom(handler: HandlerStory) -> str:
    waiting = handler.waiting
    return f"{waiting.head_event}: " if waiting is not None and waiting.ahead else ""
