"""The life of one event, gathered as plain values and put in words: "why has this not reached the CRM yet?"."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from worker.core.archive import Record
from worker.core.changes import Change
from worker.ops import tables
from worker.ops.installed import Installed
from worker.store.control import Control, controls
from worker.store.dead import DeadLetter
from worker.store.installation import known_handlers
from worker.store.keys import partition_of
from worker.store.lanes import Attempt
from worker.store.pages import address
from worker.store.quarantine import Quarantined
from worker.store.records import arrival_ms
from worker.store.trace import End, Hold, Located, Tracer, Waiting

SOON_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class HandlerStory:
    """What one handler made, or makes, of the event. All None: it had a job once, and how that ended is not known.
    ``batch_wait_ms``: so long a batch of it fills."""

    name: str
    announced: bool
    control: Control
    waiting: Waiting | None = None
    dead: DeadLetter | None = None
    end: End | None = None
    batch_wait_ms: int = 0

    @property
    def state(self) -> str:
        """done, discarded, conflated, dead, dropped, running, waiting, or gone."""
        if self.waiting is not None:
            return "running" if self.waiting.claimed and not self.waiting.ahead else "waiting"
        if self.dead is not None:
            return "dead"
        return "gone" if self.end is None else self.end.outcome


@dataclass(frozen=True, slots=True)
class Story:
    """One event's life. ``place`` is unread, held, released or quarantined; times are server ms.

    ``released`` is None where the archive does not know it (any more); ``change`` too, for an event without one.
    """

    event_id: str
    now: int
    place: str
    located: Located | None = None
    quarantined: Sequence[Quarantined] = ()
    duplicates: Sequence[int] = ()
    hold: Hold | None = None
    record: Record | None = None
    change: Change | None = None
    late: bool = False
    handlers: Sequence[HandlerStory] = ()

    @property
    def received(self) -> int:
        return arrival_ms(self.located.entry) if self.located else self.quarantined[0].arrived


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every event of that id (teams may share one). ``whole``: all places were looked at, so none is none."""

    event_id: str
    stories: Sequence[Story] = field(default_factory=tuple)
    whole: bool = True


def explain(found: Installed, event_id: str, team: str | None = None) -> Explanation:
    """Gather all that is known. Raises ``StoreUnavailable``."""
    partitions = found.partitions
    if team is not None and partitions:
        partitions = (partitions[partition_of(team, len(partitions))],)
    tracer = Tracer(found.client, partitions)
    whole = True
    located = tracer.indexed(event_id)
    if not located:
        located, whole = tracer.searched(event_id)
    located = [one for one in located if team in (None, one.event.team)]
    stories = [_story(found, tracer, one) for one in _first_deliveries(located)]
    if not stories:
        aside, whole_aside = tracer.quarantined(event_id)
        aside = [one for one in aside if team is None or one.team in (None, team)]
        whole = whole and whole_aside
        if aside:
            stories.append(Story(event_id, found.now(), "quarantined", quarantined=aside))
    return Explanation(event_id, stories, whole)


def _first_deliveries(located: Sequence[Located]) -> Iterator[Located]:
    """One for each team: an unread delivery of an event that is known already is a duplicate to be."""
    oldest: dict[str, Located] = {}
    for one in located:
        known = oldest.get(one.event.team)
        if known is None or arrival_ms(one.entry) < arrival_ms(known.entry):
            oldest[one.event.team] = one
    yield from oldest.values()


def _story(found: Installed, tracer: Tracer, located: Located) -> Story:
    now, event = found.now(), located.event
    duplicates = tracer.duplicates(located.keys, event.id)
    if tracer.unread(located):
        return Story(event.id, now, "unread", located, duplicates=duplicates)
    hold = tracer.hold(located)
    if hold is not None:
        return Story(event.id, now, "held", located, duplicates=duplicates, hold=hold)
    record = tracer.record(located)
    announced = known_handlers(found.client, found.settings)
    names = list(announced) if record is None else list(record.handlers)
    states = controls(found.client, found.settings.prefix, names)
    handlers = []
    for name in names:
        story = _handler(
            tracer,
            located,
            HandlerStory(name, name in announced, states[name], batch_wait_ms=_fills_for(announced.get(name, {}))),
        )
        if record is not None or story.state != "gone":
            handlers.append(story)
    job = record.job if record else next((story.waiting.job for story in handlers if story.waiting), None)
    return Story(
        event_id=event.id,
        now=now,
        place="released",
        located=located,
        duplicates=duplicates,
        record=record,
        change=job.change if job else None,
        late=bool(job and job.late),
        handlers=handlers,
    )


def _handler(tracer: Tracer, located: Located, story: HandlerStory) -> HandlerStory:
    name = story.name
    end = tracer.end(located, name)
    if end is not None and end.outcome != "dead":
        return replace(story, end=end)
    waiting = tracer.waiting(located, name)
    dead = None if waiting else tracer.dead(located, name, end.at if end else None)
    # A letter that was dropped, or tried again since, leaves how it ended then.
    return replace(story, waiting=waiting, dead=dead, end=end)


def verdict(story: Story) -> str:
    """Where it stands, in a sentence or two."""
    match story.place:
        case "quarantined":
            return (
                f"It was set aside, and reaches nobody: {story.quarantined[0].detail or story.quarantined[0].reason}."
            )
        case "unread":
            return "It waits in the inbox for the sequencer; duplicates are told there."
        case "held":
            assert story.hold is not None
            return f"It is held: {_missing(story.hold)}{_until(story.hold.until, story.now)}."
    waiting = [handler for handler in story.handlers if handler.state in {"waiting", "running"}]
    dead = [handler for handler in story.handlers if handler.state in {"dead", "dropped"}]
    said = []
    if waiting:
        said.append(f"It has not reached {_names(waiting)}: {reason(waiting[0], story.now)}.")
    if dead:
        letter = dead[0].dead
        since = "dropped by a person since" if letter is None else f"see `handoff dead show {address(letter)}`"
        said.append(f"It never reached {_names(dead)}: given up, {since}.")
    if said:
        return " ".join(said)
    if not story.handlers:
        return "It reached no handler: none asked for it." if story.record else "Nothing waits for it any more."
    return "Nothing waits for it: every handler that asked for it has ended its job."


def _fills_for(described: Mapping[str, Any]) -> int:
    """Of a handler as a worker announced it: ms that a batch waits to fill."""
    return int((described.get("batch_wait") or 0) * 1000)


def reason(story: HandlerStory, now: int) -> str:
    """Why a handler's job is still waiting, the most likely cause first."""
    waiting = story.waiting
    assert waiting is not None
    if story.control.paused is not None:
        return f"{story.name} is paused by {story.control.paused.by} (`handoff handlers resume {story.name}`)"
    if waiting.blocked is not None:
        by = waiting.blocked
        if by.get("why") == "paused":
            command = shlex.join(["handoff", "lanes", "resume", story.name, waiting.lane])
            return f"its lane is paused by {by.get('by')} (`{command}`)"
        return (
            f"its lane is blocked since {tables.moment(int(by.get('at', 0)))}: "
            f"{waiting.head_event or 'its first job'} ran out of attempts ({by.get('error')})"
        )
    behind = "" if not waiting.ahead else f", {tables.plural(waiting.ahead, 'job')} behind {waiting.head_event or '?'}"
    circuit = story.control.circuit
    if circuit.opened and not waiting.claimed:
        probe = f"the next try is in {tables.age(circuit.until - now)}" if circuit.until > now else "it is tried now"
        return f"the circuit of {story.name} is open, for its calls fail ({circuit.error}); {probe}{behind}"
    if waiting.claimed:
        return ("it is being worked on" if not waiting.ahead else f"its lane is being worked on{behind}") + _tries(
            waiting
        )
    if waiting.failed and waiting.due is not None and waiting.due > now:
        return f"the next attempt is in {tables.age(waiting.due - now)}{behind}{_tries(waiting)}"
    if not story.announced:
        return f"no worker announces {story.name}: is its module in HANDOFF_HANDLERS?{behind}"
    if waiting.due is not None and 0 <= now - waiting.due < story.batch_wait_ms:
        return f"its batch fills for another {tables.age(story.batch_wait_ms - now + waiting.due)} at most{behind}"
    if waiting.due is not None and now - waiting.due > SOON_MS:
        return (
            f"its lane has been due for {tables.age(now - waiting.due)} and no worker took it{behind}{_tries(waiting)}"
        )
    return f"its lane is due now{behind}{_tries(waiting)}"


def _tries(waiting: Waiting) -> str:
    if not waiting.failed:
        return ""
    return f" ({tables.plural(len(waiting.failed), 'attempt')} failed, the last with {waiting.failed[-1].error})"


def _missing(hold: Hold) -> str:
    if hold.first is None:
        return "nothing of its team has been released yet, so nobody knows if it is the first"
    if hold.first == hold.last:
        return f"number {hold.first} is missing"
    return f"numbers are missing between {hold.first} and {hold.last}"


def _until(until: int | None, now: int) -> str:
    if until is None:
        return ""
    return f", for {tables.age(until - now)} more at most" if until > now else "; its wait is over, and it goes next"


def _names(stories: Sequence[HandlerStory]) -> str:
    return ", ".join(story.name for story in stories)


def document(explanation: Explanation, *, text: bool) -> dict[str, Any]:
    """As JSON has it: ``text`` adds the errors' texts, which may hold personal data."""
    return {
        "event_id": explanation.event_id,
        "found": bool(explanation.stories),
        "whole": explanation.whole,
        "events": [_as_json(story, text=text) for story in explanation.stories],
    }


def _as_json(story: Story, *, text: bool) -> dict[str, Any]:
    located, record, hold = story.located, story.record, story.hold
    event = located.event if located else None
    return {
        "verdict": verdict(story),
        "place": story.place,
        "id": None if located is None else f"{located.keys.partition}:{located.entry}",
        "team": event.team if event else story.quarantined[0].team,
        "type": event and event.type,
        "seq": event and event.seq,
        "received": story.received,
        "duplicates": list(story.duplicates),
        "held": None if hold is None else {"first": hold.first, "last": hold.last, "until": hold.until},
        "waited_for": located and located.first_missing,
        "released": record and record.released,
        "late": story.late,
        "change": change_json(story),
        "quarantine": [{"id": address(one), "reason": one.reason, "at": one.at} for one in story.quarantined],
        "handlers": [_handler_json(one, story.now, text=text) for one in story.handlers],
    }


def change_json(story: Story) -> dict[str, Any] | None:
    change = story.change
    if change is None or story.located is None:
        return None
    event = story.located.event
    return {
        "kind": change.kind.value,
        "prospect": event.prospect,
        "previous_assignee_id": change.previous,
        "previous_known": change.previous_known,
        "assignee_id": event.assignee,
        "stale": change.stale,
    }


def attempts_of(story: HandlerStory) -> Sequence[Attempt]:
    """The failed attempts of the event's own job, oldest first."""
    if story.waiting is not None:
        return story.waiting.failed if story.waiting.ahead == 0 else ()
    return ()


def _handler_json(story: HandlerStory, now: int, *, text: bool) -> dict[str, Any]:
    waiting, end, dead = story.waiting, story.end, story.dead
    return {
        "handler": story.name,
        "state": story.state,
        "at": end.at if end else dead.at if dead else None,
        "attempts": dead.attempts if dead else end.attempts if end else len(attempts_of(story)),
        "lane": waiting.lane if waiting else None,
        "ahead": waiting.ahead if waiting else None,
        "behind": waiting.head_event if waiting and waiting.ahead else None,
        "due": waiting.due if waiting else None,
        "why": reason(story, now) if waiting else None,
        "failed": [
            {"attempt": one.number, "at": one.at, "error": one.error} | ({"text": one.text} if text else {})
            for one in (waiting.failed if waiting else ())
        ],
        "dead": None if dead is None else {"id": address(dead), "error": dead.error},
    }
