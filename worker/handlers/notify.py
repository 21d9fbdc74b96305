"""Tells people whose prospects changed hands, by whatever Apprise can reach: Slack, Teams, Discord, e-mail, Telegram
and a hundred others, each named by a URL (https://github.com/caronc/apprise/wiki).

``HANDOFF_NOTIFY_URLS``, which puts it on, is where everybody reads. ``HANDOFF_NOTIFY_MEMBERS`` is where a single member
does: there the new owner is told, and the one before.

- **One message for a burst.** What comes within ``HANDOFF_HANDLER_NOTIFY_BATCH_WAIT`` (5 s) is one message with a line
  for each prospect, the newest word on it; after 20 lines the number of the others.
- **Failures.** Apprise says whether a message was taken, and seldom why not, so it is tried again, 19 times: about
  half an hour. Only the recipient that failed is told again: who got the message is remembered, by this
  process, until all have it. Notifications are made at least once. If no channel takes a message, that is an outage:
  the circuit opens, and no attempts are counted.
- **Quiet hours** put everything off until they end, at the price of one attempt.
- **Limits.** 20 seconds for each message, six messages at once; what is not begun after 35 seconds comes again.
- **Privacy.** No URL is ever shown: recipients are called ``channel 1 (slack)`` or ``member k3x... (mailtos)``. What
  comes from a prospect is put in as text, and can neither mention people nor make links. Redirects are not followed,
  and a URL that switches off the check of certificates is refused.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Self
from urllib.parse import quote

import httpx
from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from worker import AssigneeChange, BatchContext, Retry, handler
from worker.errors import ConfigurationError
from worker.handler_settings import HandlerSettings, Pairs
from worker.member_settings import Options as Directory
from worker.members import Member, Members
from worker.messengers import Messenger, scheme_of, urls_in
from worker.quiet_hours import QuietHours, zone_of
from worker.wording import FIELDS, Template, fields_of, one_line

EVERYBODY: Final = "*"
AT_ONCE: Final = 6  # messages; Apprise has threads for about so many
TIMEOUT: Final = 60.0  # seconds for a call ...
LAST_START: Final = 35.0  # ... in which a message begins only so early that it has its time
LINES: Final = 20  # of a message
REMEMBERED: Final = 10_000  # (recipient, change) of changes that not all recipients have

TEXTS: Final = (
    *("owner_assigned", "owner_reassigned", "previous_reassigned", "previous_unassigned"),
    *("channel_assigned", "channel_reassigned", "channel_unassigned"),
)


def _urls(value: object) -> object:
    return urls_in(value) if isinstance(value, str) else value


def _routes(value: object) -> object:
    """``"a=slack://...,b=mailto://..."`` as a mapping; commas within a URL stay."""
    if not isinstance(value, str):
        return value
    found = {}
    for part in re.split(r"[\s,]+(?=[^\s,=/:?&]+=[A-Za-z][A-Za-z0-9+.-]*://)", value.strip(" ,\t\r\n")):
        member, separator, url = part.partition("=")
        if not separator or not member.strip() or scheme_of(url.strip()) == "?":
            raise ValueError("must be pairs of member id=URL, comma-separated")
        found[member.strip()] = url.strip()
    return found


class Options(HandlerSettings, env_prefix="HANDOFF_NOTIFY_"):
    urls: Annotated[list[SecretStr], NoDecode, BeforeValidator(_urls)] = Field(
        description="Apprise URLs where everybody reads of every change, comma-separated: `slack://...`, "
        "`mailtos://...`. `none`: tell members only.",
    )
    members: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_routes)] = Field(
        default_factory=dict,
        description="`member id=URL` pairs: where a new owner, and the one before, is told. `*` is any other member; "
        "its URL may have `{email}` (see `HANDOFF_MEMBERS`) and `{id}`.",
    )
    quiet: str | None = Field(None, description="Hours without messages, `22:00-07:00`; they are sent at the end.")
    timezone: str = Field("UTC", description="Where these hours are those of the clock, such as `Europe/Berlin`.")
    show_notes: bool = Field(False, description="Put the prospect's notes into messages, as `{notes}`.")
    statuses: Pairs = Field(default_factory=dict, description="`status id=name` pairs, for `{status}`.")
    title: str = Field("Changes of owner", description="Title or subject of each message.")
    owner_assigned: str = Field(
        "{name}{details} is yours now. {link} {notes}", description="To the new owner of what nobody owned."
    )
    owner_reassigned: str = Field(
        "{name}{details} is yours now, from {previous}. {link} {notes}", description="To the new owner."
    )
    previous_reassigned: str = Field(
        "{name}{details} went from you to {owner}. {link}", description="To the owner before."
    )
    previous_unassigned: str = Field(
        "{name}{details} is not yours any more; nobody owns it now. {link}",
        description="To the owner before, of what nobody owns now.",
    )
    channel_assigned: str = Field("{name}{details}: {owner} owns it now. {link} {notes}", description="To the channel.")
    channel_reassigned: str = Field(
        "{name}{details}: from {previous} to {owner}. {link} {notes}", description="To the channel."
    )
    channel_unassigned: str = Field(
        "{name}{details}: was {previous}'s, nobody owns it now. {link} {notes}",
        description="To the channel. Fields of all these: " + ", ".join(f"`{{{name}}}`" for name in FIELDS) + ". "
        "`none`: not told.",
    )

    @field_validator(*TEXTS)
    @classmethod
    def _fields_are_known(cls, value: str) -> str:
        Template(value, FIELDS)
        return value

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        zone_of(value)
        return value

    @field_validator("quiet")
    @classmethod
    def _hours_are_hours(cls, value: str | None) -> str | None:
        if value is not None:
            QuietHours.parse(value, zone_of("UTC"))
        return value


@dataclass
class Letter:
    """A message to one recipient: a line for each prospect, by (team, key), and the places of the changes it tells."""

    to: Messenger
    lines: dict[tuple[str, str], str] = field(default_factory=dict)
    changes: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        lines = list(self.lines.values())
        return "\n".join([*lines[:LINES], *([f"and {len(lines) - LINES} more"] if len(lines) > LINES else [])])


@dataclass
class People:
    """Who the members of a call are, as far as known. ``away``: the directory could not be asked about the others."""

    known: Mapping[str, Member] = field(default_factory=dict)
    away: bool = False

    def name(self, member: str | None, otherwise: str) -> str:
        if member is None:
            return otherwise
        found = self.known.get(member)
        return member if found is None else found.name or found.email.partition("@")[0]


class Unreached(ConnectionError):
    """No channel took a message: the far side's trouble, and not these changes'."""


class NotToldYet(Exception):
    """Who is to be told is not known so far. ``after``: seconds until it may be."""

    def __init__(self, text: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(text)


class Notifier:
    """Says who is to be told what, and tells them. ``now`` is a time with its zone, ``clock`` seconds that pass.

    Raises ``ConfigurationError`` for URLs that can't be used, by their number or member.
    """

    def __init__(
        self,
        options: Options,
        members: Members | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        urls = [url.get_secret_value() for url in options.urls]
        routes = {member: url.get_secret_value() for member, url in options.members.items()}
        if urls == ["none"]:
            urls = []
            if not routes:
                raise ConfigurationError("HANDOFF_NOTIFY_MEMBERS", "is not set", "or name a channel")
        self._options = options
        self._members = members
        self._now, self._clock = now, clock
        self._quiet = None if options.quiet is None else QuietHours.parse(options.quiet, zone_of(options.timezone))
        self._texts = {
            name: Template(text, FIELDS) for name in TEXTS if (text := getattr(options, name)).strip().lower() != "none"
        }
        self._channels = [
            _messenger("HANDOFF_NOTIFY_URLS", f"URL {number}", f"channel {number}", url)
            for number, url in enumerate(urls, 1)
        ]
        self._others = routes.pop(EVERYBODY, None)
        if self._others is not None:
            _check(self._others)
        self._routes = {
            member: _messenger("HANDOFF_NOTIFY_MEMBERS", f"member {member}", f"member {member}", url)
            for member, url in routes.items()
        }
        # By the change's idempotency key: who has been told of one that has to come again because of others.
        self._told: OrderedDict[str, set[str]] = OrderedDict()

    @classmethod
    def load(cls, options: Options) -> Self:
        """With the directory of members, if there is one or it is needed."""
        directory = Directory.load()
        needed = any("{email}" in url.get_secret_value() for url in options.members.values())
        return cls(options, Members.load() if needed or directory.members or directory.inbox_token else None)

    async def tell(self, changes: Sequence[AssigneeChange], ctx: BatchContext) -> list[Retry | None]:
        """One message to each recipient of any of the changes. Answers for each change: None, or to tell it again."""
        wait = 0.0 if self._quiet is None else self._quiet.left(self._now())
        if wait > 0:
            return [Retry("quiet hours", after=wait) for _ in changes]
        last_start = self._clock() + LAST_START
        people = await self._who(changes)
        why: list[list[Exception]] = [[] for _ in changes]
        letters = self._letters(changes, ctx, people, why)
        room = asyncio.Semaphore(AT_ONCE)
        taken = await asyncio.gather(*(self._send(each, ctx, room, last_start, why) for each in letters))
        channels = [ok for each, ok in zip(letters, taken, strict=True) if each.to in self._channels]
        outage = bool(channels) and not any(channels)
        answers = []
        for key, reasons in zip(ctx.idempotency_keys, why, strict=True):
            if not reasons:
                self._told.pop(key, None)
            answers.append(_again(reasons, outage=outage) if reasons else None)
        return answers

    def preview(self, change: AssigneeChange) -> list[dict[str, str]]:
        """Who would be told what, with ids where people's names would be."""
        values = fields_of(change, People().name, self._options.statuses, shown=False)
        found = []
        for role, member in _roles(change):
            template = self._texts.get(f"{role}_{change.kind.value}")
            if template is None:
                continue
            if role == "channel":
                to = [str(channel) for channel in self._channels]
            elif member in self._routes:
                to = [str(self._routes[member])]
            else:
                to = [] if self._others is None else [f"member {member} ({scheme_of(self._others)})"]
            found += [{"to": each, "text": _line(template, values)} for each in to]
        return found

    async def _who(self, changes: Sequence[AssigneeChange]) -> People:
        ids = {member for change in changes for member in (change.assignee_id, change.previous_assignee_id) if member}
        if self._members is None or not ids:
            return People()
        try:
            return People(await self._members.find(ids))
        except httpx.HTTPError:
            return People(self._members.known(ids), away=True)

    def _letters(
        self, changes: Sequence[AssigneeChange], ctx: BatchContext, people: People, why: list[list[Exception]]
    ) -> list[Letter]:
        """What is to be sent. Whom nothing can be sent to so far is noted in ``why``, by place of the change."""
        letters: dict[str, Letter] = {}
        for at, change in enumerate(changes):
            values = fields_of(change, people.name, self._options.statuses, notes=self._options.show_notes)
            for role, member in _roles(change):
                template = self._texts.get(f"{role}_{change.kind.value}")
                if template is None:
                    continue
                try:
                    to = self._channels if role == "channel" else self._route(member, people)
                except NotToldYet as error:
                    why[at].append(error)
                    continue
                for messenger in to:
                    if messenger.name in self._told.get(ctx.idempotency_keys[at], ()):
                        continue
                    letter = letters.setdefault(messenger.name, Letter(messenger))
                    prospect = (change.team_id, change.prospect.key)
                    # The newest of a prospect is what holds, in its place; what it was in between nobody needs.
                    letter.lines.pop(prospect, None)
                    letter.lines[prospect] = _line(template, _inert(values, messenger))
                    letter.changes.append(at)
        return list(letters.values())

    def _route(self, member: str | None, people: People) -> list[Messenger]:
        """Where a member is told: nowhere, or one place. Raises ``NotToldYet``."""
        if member is None:
            return []
        if member in self._routes:
            return [self._routes[member]]
        if self._others is None:
            return []
        found = people.known.get(member)
        email = "" if found is None else found.email
        if found is None and "{email}" in self._others:
            after = 0.0 if self._members is None else self._members.unsure(member)
            if people.away or after:
                raise NotToldYet(f"member {member}: the e-mail is not known yet", after or None)
            return []
        try:
            return [_of_template(f"member {member}", self._others, member, email)]
        except ValueError:
            raise NotToldYet(f"member {member}: the e-mail can't be used") from None

    async def _send(
        self, letter: Letter, ctx: BatchContext, room: asyncio.Semaphore, last_start: float, why: list[list[Exception]]
    ) -> bool:
        """Send one message, and note who has it or for which changes it failed."""
        async with room:
            late = self._clock() > last_start
            trouble = "not begun in time" if late else await letter.to.send(one_line(self._options.title), letter.text)
        if trouble is None:
            for at in letter.changes:
                self._told.setdefault(ctx.idempotency_keys[at], set()).add(letter.to.name)
            while len(self._told) > REMEMBERED:
                self._told.popitem(last=False)
            return True
        ctx.log.warning("not_told", to=str(letter.to), why=trouble, of=len(letter.changes))
        for at in letter.changes:
            why[at].append(Exception(f"{letter.to}: {trouble}"))
        return False


def _roles(change: AssigneeChange) -> Iterator[tuple[str, str | None]]:
    yield "channel", None
    yield "owner", change.assignee_id
    yield "previous", change.previous_assignee_id


def _inert(values: Mapping[str, str], to: Messenger) -> dict[str, str]:
    # A link is checked already, and would not be one any more.
    return {
        name: text if name == "link" else f" {to.inert(text)}" if name == "details" and text else to.inert(text)
        for name, text in values.items()
    }


def _line(template: Template, values: Mapping[str, str]) -> str:
    return " ".join(template.fill(values).split())


def _again(reasons: Sequence[Exception], *, outage: bool) -> Retry:
    after = [reason.after for reason in reasons if isinstance(reason, NotToldYet) and reason.after is not None]
    retry = Retry("; ".join(map(str, reasons)), after=max(after, default=None))
    if outage:
        retry.__cause__ = Unreached("no channel took a message")
    return retry


def _messenger(setting: str, which: str, name: str, url: str) -> Messenger:
    try:
        return Messenger(name, url)
    except ValueError as error:
        raise ConfigurationError(setting, f"{which} {error}") from None


def _check(template: str) -> None:
    """Raises ``ConfigurationError`` for a URL for all members that would be none for any."""
    unknown = set(re.findall(r"\{(\w*)\}", template)) - {"email", "id"}
    if unknown:
        raise ConfigurationError("HANDOFF_NOTIFY_MEMBERS", "the URL of * has another field than {email} and {id}")
    _messenger("HANDOFF_NOTIFY_MEMBERS", "the URL of *", "", _filled(template, "k3x", "ann@example.com"))


def _filled(template: str, member: str, email: str) -> str:
    return template.replace("{email}", quote(email, safe="")).replace("{id}", quote(member, safe=""))


@lru_cache(maxsize=1000)
def _of_template(name: str, template: str, member: str, email: str) -> Messenger:
    return Messenger(name, _filled(template, member, email))


options = Options.load()
notifier = Notifier.load(options)


@handler(
    name="notify",
    batch=100,
    batch_wait=5.0,
    conflate=True,
    order_by="prospect",
    concurrency=1,
    attempts=20,
    timeout=TIMEOUT,
    preview=notifier.preview,
)
async def notify(changes: list[AssigneeChange], ctx: BatchContext) -> Any:
    """Tell the channel, new owners and those before of what changed within a few seconds."""
    return await notifier.tell(changes, ctx)
