"""Keeps the owner of Salesforce's leads or contacts as it is in Inbox. On once ``HANDOFF_SALESFORCE_URL`` is set.

A call brings up to 200 changes, of all teams, and makes few requests of them: who owns, by the assignee's e-mail (a
query of active users, remembered for an hour); which records there are, by the external id field that holds the
prospect's id; then one request that updates those by their id, and one that upserts those to create by the external
id. A record that has its owner already is not written. All of it can be repeated. A record whose owner or which itself
is gone by then is looked up anew, once.

A record always has an owner in Salesforce: of a prospect that nobody owns, it stays as it is (``UNASSIGNED=skip``) or
goes to a queue or user of your choice.

| Salesforce answers, or there is | then |
|---|---|
| 401 | a new token, once for each request; then again, and the circuit opens |
| no token for the credentials; an object or field that is missing or hidden | again, and the circuit opens |
| 403 ``REQUEST_LIMIT_EXCEEDED``, or the daily calls' share is used up | nothing is sent for 15 minutes |
| the same for long requests at one time | again after 30 s |
| for a record ``UNABLE_TO_LOCK_ROW`` and what else passes | again |
| for a record ``INVALID_CROSS_REFERENCE_KEY`` and what else is gone | looked up anew, then dead letter |
| for a record anything else: a required field, a validation rule, a duplicate | dead letter with the code |
| anything else, no answer, no JSON | the default policy (core/failures.py) |
| an assignee who is no active user, or several | ``unknown_owner`` |
| no record | ``missing_record``; where nobody owns the prospect, there is nothing to do |
| a lead that was converted | the same, but none is made anew |
| several records | dead letter |
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr, field_validator, model_validator

from worker import AssigneeChange, BatchContext, DeadLetter, Discard, Retry, handler
from worker.fields import NAMES, checked, checked_link, values_of
from worker.handler_settings import HandlerSettings, Pairs
from worker.members import Members
from worker.outgoing import trimmed
from worker.salesforce_api import (
    MOST,
    PAUSE_TOTAL,
    Api,
    LimitReached,
    Result,
    Trouble,
    grant_of,
)

USER_KEPT: Final = 3600.0  # seconds; a stranger is asked for again much sooner, for somebody may be adding them now
STRANGER_KEPT: Final = 10.0
NAME_LENGTH: Final = 80  # characters of LastName
ID_LENGTH: Final = 255  # of an external id

LOCKED: Final = "UNABLE_TO_LOCK_ROW"
PASSING: Final = {
    *(LOCKED, "SERVER_UNAVAILABLE", "REQUEST_RUNNING_TOO_LONG", "QUERY_TIMEOUT", "UNKNOWN_EXCEPTION"),
    *("ALL_OR_NONE_OPERATION_ROLLED_BACK", "PROCESSING_HALTED", "LIMIT_EXCEEDED", "API_CURRENTLY_DISABLED"),
    *("STORAGE_LIMIT_EXCEEDED", "TXN_SECURITY_METERING_ERROR"),
}
GONE: Final = {
    *("INVALID_CROSS_REFERENCE_KEY", "INACTIVE_OWNER_OR_USER", "ENTITY_IS_DELETED", "INVALID_ID_FIELD"),
    "OP_WITH_INVALID_USER_TYPE_EXCEPTION",
}
CONVERTED: Final = "CANNOT_UPDATE_CONVERTED_LEAD"

_QUEUE_OR_USER: Final = re.compile(r"queue_or_user:((?:005|00G)[A-Za-z0-9]{12}(?:[A-Za-z0-9]{3})?)")
_ID: Final = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
_EMAIL: Final = re.compile(r"[^\s@<>'\"]+@[^\s@<>'\"]+")
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Options(HandlerSettings, env_prefix="HANDOFF_SALESFORCE_"):
    """Settings. Owners are known by e-mail: see worker/members.py."""

    url: str = Field(
        description="My Domain of the org, such as `https://example.my.salesforce.com`. Setting it puts the handler on."
    )
    client_id: str = Field(description="Consumer key of the external client app (or connected app).")
    client_secret: SecretStr | None = Field(
        None, description="Its consumer secret: logs in by the client credentials flow."
    )
    private_key: SecretStr | None = Field(
        None,
        description="RSA private key in PEM of the app's certificate, instead: logs in by the JWT bearer flow, with "
        "`pip install handoff[salesforce]`.",
    )
    private_key_file: Path | None = Field(None, description="File that has the private key.")
    username: str | None = Field(None, description="User whom the JWT bearer flow logs in.")
    audience: str | None = Field(
        None, description="Audience of its tokens. Default: that of production, or of sandboxes, as the URL says."
    )
    object: Literal["Lead", "Contact"] = Field("Lead", description="What a prospect is in Salesforce.")
    external_id_field: str = Field(
        "Inbox_Prospect_Id__c",
        description="Its field that holds the prospect's id: text, external id, unique. Create it once.",
    )
    unassigned: str = Field(
        "skip",
        description="Who gets what nobody owns: `skip` leaves the record as it is, `queue_or_user:ID` gives it to that "
        "queue (of leads) or user.",
    )
    unknown_owner: Literal["skip", "clear", "dead_letter"] = Field(
        "skip",
        description="Where no active user has the assignee's e-mail, or nobody knows it: `skip` the change, `clear` "
        "the owner as for what nobody owns, or make it a `dead_letter`.",
    )
    missing_record: Literal["create", "skip", "dead_letter"] = Field(
        "create", description="Where there is no record: `create` one, `skip` the change, or make it a `dead_letter`."
    )
    fields: Pairs = Field(
        default_factory=dict,
        description=f"What else is written with each change: `Field=field` pairs, comma-separated. Fields: {NAMES}.",
    )
    create_fields: Pairs = Field(
        default_factory=dict,
        description="What a new record gets besides; `LastName` is the display name, else the handle or the id.",
    )
    company: str = Field("[not provided]", min_length=1, max_length=255, description="`Company` of a new lead.")
    link: str | None = Field(
        None, description="What `link` is made of: an address with `{prospect}`, `{thread}` or `{team}` in it."
    )
    api_share: float = Field(
        0.95, gt=0, le=1, description="Share of the org's daily API calls, used by anybody, at which to wait."
    )
    api_version: str = Field("62.0", pattern=r"^\d\d\.0$", description="Version of Salesforce's API; 46.0 or newer.")

    @field_validator("url")
    @classmethod
    def _place(cls, value: str) -> str:
        parts = urlsplit(value.strip())
        local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if not parts.hostname or not (parts.scheme == "https" or local) or parts.username or parts.query:
            raise ValueError("must be an address with https://")
        if parts.hostname.endswith((".lightning.force.com", "login.salesforce.com", "test.salesforce.com")):
            raise ValueError("must be the My Domain address, which ends in .my.salesforce.com")
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("external_id_field")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _FIELD.fullmatch(value):
            raise ValueError("must be a field's API name")
        return value

    @field_validator("unassigned")
    @classmethod
    def _policy(cls, value: str) -> str:
        if value != "skip" and not _QUEUE_OR_USER.fullmatch(value):
            raise ValueError("must be skip, or queue_or_user: and an id that begins with 00G or 005")
        return value

    @field_validator("fields", "create_fields")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(_FIELD.fullmatch(name) and name not in {"Id", "OwnerId", "attributes"} for name in value):
            raise ValueError("must name fields by their API names, and neither Id nor OwnerId")
        return checked(value)

    @field_validator("link")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        return checked_link(value)

    @property
    def nobody(self) -> str | None:
        """The id of who owns what nobody owns."""
        found = _QUEUE_OR_USER.fullmatch(self.unassigned)
        return None if found is None else found[1]

    @model_validator(mode="after")
    def _agree(self) -> Options:
        if self.link is None and "link" in {*self.fields.values(), *self.create_fields.values()}:
            raise ValueError("HANDOFF_SALESFORCE_LINK is needed for the field link")
        if self.unknown_owner == "clear" and self.nobody is None:
            raise ValueError("HANDOFF_SALESFORCE_UNASSIGNED has to name who gets it, for UNKNOWN_OWNER=clear")
        if self.object == "Contact" and (self.nobody or "").startswith("00G"):
            raise ValueError("HANDOFF_SALESFORCE_UNASSIGNED has to name a user: queues own leads, not contacts")
        if self.external_id_field in {*self.fields, *self.create_fields}:
            raise ValueError("HANDOFF_SALESFORCE_FIELDS can't write HANDOFF_SALESFORCE_EXTERNAL_ID_FIELD")
        return self


class Users:
    """Ids of active users by their e-mail, remembered."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, tuple[float, str | None]] = {}

    async def find(self, emails: Collection[str]) -> dict[str, str | None]:
        """By e-mail, in lower case, the user's id; None where there is none, or not one alone."""
        wanted = {email.lower() for email in emails}
        now = self._clock()
        self._known = {email: kept for email, kept in self._known.items() if kept[0] > now}
        if asked := sorted(wanted - self._known.keys()):
            soql = "SELECT Id, Email, Username FROM User WHERE IsActive = true AND Email IN ({})"
            rows = await self._api.query(soql, asked)
            for email in asked:
                user = _user_of(email, rows)
                self._known[email] = (self._clock() + (STRANGER_KEPT if user is None else USER_KEPT), user)
        return {email: self._known[email][1] for email in wanted}

    def forget(self, user: str) -> None:
        self._known = {email: kept for email, kept in self._known.items() if kept[1] != user}


def _user_of(email: str, rows: list[dict[str, Any]]) -> str | None:
    """Several users may have one e-mail, but one alone has it as the name that they log in with."""
    rows = [row for row in rows if str(row.get("Email")).lower() == email and _ID.fullmatch(str(row.get("Id")))]
    named = [row for row in rows if str(row.get("Username")).lower() == email]
    found = {str(row["Id"]) for row in named or rows}
    return found.pop() if len(found) == 1 else None


options = Options.load()
members = Members.load()
api = Api(
    options.url,
    options.api_version,
    grant_of(
        options.url,
        options.client_id,
        secret=options.client_secret,
        key=options.private_key,
        key_file=options.private_key_file,
        username=options.username,
        audience=options.audience,
    ),
    share=options.api_share,
)
users = Users(api)


@dataclass
class Item:
    """A change on its way. ``end`` is what becomes of it: None is done."""

    change: AssigneeChange
    owner: str = ""
    record: str | None = None
    ended: bool = False
    end: Exception | None = None
    gone: tuple[Trouble, ...] = field(default=())

    @property
    def key(self) -> str:
        return self.change.prospect.key

    def ends(self, end: Exception | None = None) -> None:
        self.ended, self.end = True, end


def preview(change: AssigneeChange) -> dict[str, object]:
    """What a dry run shows: ids and names of fields, nothing of a person."""
    owner: object = {"user with the e-mail of member": change.assignee_id}
    return {
        "object": options.object,
        options.external_id_field: change.prospect.key,
        "OwnerId": owner if change.assignee_id is not None else options.nobody,
        "writes": sorted(values_of(change, options.fields, link=options.link)),
    }


@handler(
    name="salesforce",
    order_by="prospect",
    conflate=True,
    batch=MOST,
    batch_wait=0.5,
    concurrency=2,
    attempts=100,
    timeout=300,
    preview=preview,
)
async def push_owners(changes: list[AssigneeChange], ctx: BatchContext) -> list[Exception | None]:  # noqa: ARG001
    """``attempts``, 15 minutes apart at the daily limit, outlast the 24 hours that it counts."""
    items = [Item(change) for change in changes]
    for item in items:
        if not 0 < len(item.key) <= ID_LENGTH:
            item.ends(DeadLetter("the event names no prospect that an external id has room for"))
    _one_each(_open(items))
    for last in (False, True):
        await _set_owners(_open(items))
        await _find_records(_open(items))
        await _write(_open(items))
        for item in _open(items):
            users.forget(item.owner)
            if last:
                item.ends(DeadLetter(_said(item.gone, item)))
    return [item.end for item in items]


def _open(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if not item.ended]


def _one_each(items: list[Item]) -> None:
    """Leave the last change of each prospect: a request takes each record once. Those before it are discarded."""
    latest: dict[str, Item] = {}
    for item in items:
        other = latest.setdefault(item.key, item)
        if other is not item:
            before, latest[item.key] = (other, item) if _later(item.change, other.change) else (item, other)
            before.ends(Discard("a later change has the same record"))


def _later(one: AssigneeChange, other: AssigneeChange) -> bool:
    """Whether ``one``, which comes behind in the call, is not the older one."""
    if one.team_id == other.team_id:
        return one.seq >= other.seq
    return _when(one) >= _when(other)


def _when(change: AssigneeChange) -> float:
    moment = change.occurred_at
    return 0.0 if moment is None else moment.timestamp()


# --- who owns ---------------------------------------------------------------------------------------------------------


async def _set_owners(items: list[Item]) -> None:
    wanted = {item.change.assignee_id for item in items if item.change.assignee_id is not None}
    trouble: Exception | None = None
    try:
        people = await members.find(wanted)
    except httpx.HTTPError as error:
        people, trouble = members.known(wanted), error
    found = await users.find({person.email for person in people.values()})
    for item in items:
        member = item.change.assignee_id
        if member is None:
            _give_to_nobody(item, "nobody owns the prospect, and in Salesforce somebody has to own it")
        elif member in people:
            user = found[people[member].email.lower()]
            if user is None:
                _unknown(item, f"no active user of Salesforce, or more than one, has the e-mail of member {member}")
            else:
                item.owner = user
        elif trouble is not None:
            item.ends(trouble)
        elif after := members.unsure(member):
            item.ends(Retry(f"member {member} is not known yet", after=after))
        else:
            _unknown(item, f"nobody knows the e-mail of member {member}")


def _unknown(item: Item, text: str) -> None:
    if options.unknown_owner == "clear":
        _give_to_nobody(item, text)
    else:
        item.ends(Discard(text) if options.unknown_owner == "skip" else DeadLetter(text))


def _give_to_nobody(item: Item, text: str) -> None:
    if options.nobody is None:
        item.ends(Discard(text))
    else:
        item.owner = options.nobody


# --- which records ----------------------------------------------------------------------------------------------------


async def _find_records(items: list[Item]) -> None:
    if not items:
        return
    name = options.external_id_field
    rows = await api.query(
        f"SELECT Id, OwnerId, {name} FROM {options.object} WHERE {name} IN ({{}})",  # noqa: S608 - names that were checked
        [item.key for item in items],
    )
    found: dict[str, dict[str, str]] = {}  # by the prospect's id: records and their owners
    for row in rows:
        found.setdefault(str(row.get(name)), {})[str(row.get("Id"))] = str(row.get("OwnerId"))
    for item in items:
        match list(found.get(item.key, {}).items()):
            case []:
                item.record = None
                if item.owner == options.nobody:
                    item.ends(Discard("there is no record, and no owner for one"))
                elif options.missing_record != "create":
                    _missing(item, f"Salesforce has no {options.object} for prospect {item.key}")
            case [(record, owner)]:
                item.record = record
                if owner[:15] == item.owner[:15] and not options.fields:  # the other three only tell capitals apart
                    item.ends()
            case _:
                item.ends(DeadLetter(f"several records of Salesforce have {name} {item.key}"))


def _missing(item: Item, text: str) -> None:
    item.ends(DeadLetter(text) if options.missing_record == "dead_letter" else Discard(text))


# --- write ------------------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    path: str
    items: list[Item]


async def _write(items: list[Item]) -> None:
    for request in _requests(items):
        # More than the 200 of one request only if HANDOFF_HANDLER_SALESFORCE_BATCH says so.
        for first in range(0, len(request.items), MOST):
            some = request.items[first : first + MOST]
            results = await api.save(request.path, [_record(item) for item in some])
            for item, result in zip(some, results, strict=True):
                _judge(item, result)


def _requests(items: list[Item]) -> Iterator[Request]:
    """What there is is updated by its own id: an upsert would make one anew that was deleted meanwhile."""
    known, new = [item for item in items if item.record], [item for item in items if not item.record]
    if known:
        yield Request("composite/sobjects", known)
    if new:
        yield Request(f"composite/sobjects/{options.object}/{options.external_id_field}", new)


def _record(item: Item) -> dict[str, Any]:
    kind = {"attributes": {"type": options.object}}
    written = _values(item.change, options.fields)
    if item.record is not None:
        return kind | {"id": item.record} | written | {"OwnerId": item.owner}
    own = {"LastName": _name(item.change)} | ({"Company": options.company} if options.object == "Lead" else {})
    own |= {name: value for name, value in _values(item.change, options.create_fields).items() if value}
    return kind | own | written | {options.external_id_field: item.key, "OwnerId": item.owner}


def _name(change: AssigneeChange) -> str:
    known = values_of(change, {"1": "display_name", "2": "handle"})
    names = (" ".join(str(known[place]).split()) for place in sorted(known) if known[place])
    return next((name for name in names if name), change.prospect.key)[:NAME_LENGTH]


def _values(change: AssigneeChange, fields: dict[str, str]) -> dict[str, str | None]:
    found = values_of(change, fields, link=options.link)
    return {name: None if value is None else _text(value) for name, value in found.items()}


def _text(value: object) -> str:
    """As text, which Salesforce takes for fields of all types; a list as of a multi-select picklist."""
    if isinstance(value, list):
        return ";".join(_text(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _judge(item: Item, result: Result) -> None:
    """What a record's result means for its change; one that stays open is looked up anew."""
    # A trigger that met a locked row is refused by a code of its own, which says so.
    codes = {LOCKED if LOCKED in trouble.message else trouble.code for trouble in result.troubles}
    text = _said(result.troubles, item)
    if not codes:
        item.ends()
    elif "REQUEST_LIMIT_EXCEEDED" in codes:
        item.ends(LimitReached(text, PAUSE_TOTAL))
    elif CONVERTED in codes:
        _missing(item, text)
    elif codes <= PASSING:
        item.ends(Retry(text))
    elif codes <= GONE | PASSING:
        item.gone = result.troubles
    else:
        item.ends(DeadLetter(text))


def _said(troubles: Sequence[Trouble], item: Item) -> str:
    """Codes, fields and what was said of them, without the values, which are somebody's data."""
    told = []
    for trouble in troubles:
        message = _EMAIL.sub("***", trouble.message)
        for value in _record(item).values():
            if isinstance(value, str) and len(value) > 2 and value not in {item.owner, item.key, item.record}:
                message = message.replace(value, "***")
        told.append(" ".join(filter(None, (f"[{trouble.code}]", ",".join(trouble.fields), message))))
    return trimmed("Salesforce: " + "; ".join(told))
