"""Keeps the owner of HubSpot's contacts as it is in Inbox. On once ``HANDOFF_HUBSPOT_TOKEN`` is set.

A call brings up to 100 changes, of all teams, and makes few requests of them: who owns, by the assignee's e-mail (the
owners API, remembered for an hour); which contacts there are, in one batch read by the prospect's id, and of those not
found in one search by handle; then one batch update, and one batch upsert of those to create. What a contact has
already is not written. All of it can be repeated: what was written is found as it should be, and creating is an upsert
by a unique property.

A contact that is found by its handle gets the prospect's id, so that it is found by that from then on. Where two
prospects lead to one contact, the later change holds (by ``seq`` in a team, by time between teams).

| HubSpot answers, or there is | then |
|---|---|
| 429 without ``Retry-After`` | again after the interval that HubSpot names, else 10 s |
| a daily limit that is used up, by the answer or by its headers | nothing is sent for an hour; then it is tried again |
| 400 to a search, or because a property is missing or read-only | again, and the circuit opens: it is not set up |
| 400 otherwise | each change is tried alone; the one that it is about is a dead letter |
| 207, and for a change ``VALIDATION_ERROR`` | dead letter; tried once more before if its owner was only remembered |
| 207, and for a change anything else, or nothing | again: a contact may have been merged or deleted meanwhile |
| anything else, no answer, no JSON | the default policy (core/failures.py) |
| an assignee that is no owner in HubSpot | ``unknown_owner`` |
| no contact | ``missing_contact``; where nobody owns it, there is nothing to do |
| two contacts of one handle | dead letter |
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import httpx
from pydantic import Field, SecretStr, field_validator, model_validator

from worker import AssigneeChange, BatchContext, DeadLetter, Discard, Retry, handler
from worker.fields import NAMES, checked, checked_link, values_of
from worker.handler_settings import HandlerSettings, Pairs
from worker.hubspot_api import SETUP_CODES, HubSpot, NotSetUp, Owners, codes_of, named, objects, said
from worker.members import Members
from worker.outgoing import IDEMPOTENCY_KEY, Refused

CONTACTS: Final = "/crm/v3/objects/contacts"
SEARCHED: Final = 1500  # characters of handles in one search; HubSpot refuses requests of over 3,000
PERMANENT: Final = {"VALIDATION_ERROR", "BAD_REQUEST"}

_HANDLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Options(HandlerSettings, env_prefix="HANDOFF_HUBSPOT_"):
    """Settings. Owners are known by e-mail: see worker/members.py."""

    token: SecretStr = Field(description="Access token of a private app in HubSpot. Setting it puts the handler on.")
    url: str = Field("https://api.hubapi.com", pattern="^https?://[^/]", description="Where HubSpot's API is.")
    id_property: str = Field(
        "inbox_prospect_id",
        pattern="^[a-z0-9_]+$",
        description="Property of contacts that holds the prospect's id, text with unique values. Create it once.",
    )
    handle_property: str = Field(
        "twitterhandle",
        pattern="^[a-z0-9_]+$",
        description="Property by which a contact that has no id yet is found: the X handle. `none`: by id only.",
    )
    owner_property: str = Field("hubspot_owner_id", pattern="^[a-z0-9_]+$", description="Property that gets the owner.")
    fields: Pairs = Field(
        default_factory=dict,
        description=f"What else is written with each change: `property=field` pairs, comma-separated. Fields: {NAMES}.",
    )
    create_fields: Pairs = Field(
        default_factory=lambda: {"firstname": "display_name"},
        description="What a new contact gets besides. `none=id` for nothing.",
    )
    link: str | None = Field(
        None,
        description="What `link` is made of: an address with `{prospect}`, `{thread}` or `{team}` in it.",
    )
    missing_contact: Literal["create", "skip", "dead_letter"] = Field(
        "create", description="Where there is no contact: `create` one, `skip` the change, or make it a `dead_letter`."
    )
    unknown_owner: Literal["skip", "clear", "dead_letter"] = Field(
        "skip",
        description="Where HubSpot has no owner with the assignee's e-mail, or nobody knows it: `skip` the change, "
        "`clear` the owner, or make it a `dead_letter`.",
    )

    @field_validator("fields", "create_fields")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        return checked({name: field for name, field in value.items() if name != "none"})

    @field_validator("link")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        return checked_link(value)

    @model_validator(mode="after")
    def _has_link(self) -> Options:
        if self.link is None and "link" in {*self.fields.values(), *self.create_fields.values()}:
            raise ValueError("HANDOFF_HUBSPOT_LINK is needed for the field link")
        return self


options = Options.load()
hubspot = HubSpot(options.url, options.token.get_secret_value())
owners = Owners(hubspot)
members = Members.load()


@dataclass
class Item:
    """A change on its way. ``end`` is what becomes of it: None is done."""

    change: AssigneeChange
    trace: str
    wanted: dict[str, str]
    email: str | None = None
    owner_remembered: bool = False
    contact: dict[str, Any] | None = None
    ended: bool = False
    end: Exception | None = None
    write: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.change.prospect.key

    @property
    def handle(self) -> str:
        found = values_of(self.change, {"handle": "handle"}).get("handle")
        return found if isinstance(found, str) and _HANDLE.fullmatch(found) else ""

    def ends(self, end: Exception | None = None) -> None:
        self.ended, self.end = True, end


def preview(change: AssigneeChange) -> dict[str, object]:
    """What a dry run shows: ids and names of properties, nothing of a person."""
    return {
        "contact": {options.id_property: change.prospect.key},
        "owner": {"member": change.assignee_id},
        "writes": sorted(_values(change, options.fields)),
    }


@handler(
    name="hubspot",
    order_by="prospect",
    conflate=True,
    batch=100,
    batch_wait=0.5,
    rate="20/10s",
    concurrency=2,
    attempts=30,
    timeout=60,
    preview=preview,
)
async def push_owners(changes: list[AssigneeChange], ctx: BatchContext) -> list[Exception | None]:
    """``rate`` counts calls, each of up to five requests: 20 keep to the 100 in ten seconds of HubSpot's smallest plan.
    ``attempts`` outlast a daily limit that is met early in the day."""
    items = [
        Item(change, trace, _values(change, options.fields))
        for change, trace in zip(changes, ctx.idempotency_keys, strict=True)
    ]
    for item in items:
        if not 0 < len(item.key) <= 255:
            item.ends(DeadLetter("the event names no prospect"))
    await _set_owners(items, ctx)
    await _read_contacts(_open(items))
    await _search_contacts([item for item in _open(items) if item.contact is None and item.handle])
    _one_each(_open(items), by_handle=False)
    _one_each(_open(items), by_handle=True)
    for item in _open(items):
        _decide(item)
    await _write(_open(items))
    return [item.end if item.ended else Retry("HubSpot was not asked") for item in items]


def _open(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if not item.ended]


def _values(change: AssigneeChange, fields: Mapping[str, str]) -> dict[str, str]:
    return {name: _text(value) for name, value in values_of(change, fields, link=options.link).items()}


def _text(value: object) -> str:
    """As HubSpot takes it: every value is a text, and an empty one clears."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ";".join(_text(each) for each in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


async def _set_owners(items: list[Item], ctx: BatchContext) -> None:
    wanted = {item.change.assignee_id for item in _open(items) if item.change.assignee_id is not None}
    trouble: Exception | None = None
    try:
        found = await members.find(wanted)
    except httpx.HTTPError as error:
        found, trouble = members.known(wanted), error
    emails = {member.email for member in found.values()}
    fresh = {email for email in emails if not owners.remembers(email)}
    ids = await owners.find(emails)
    strangers = set()
    for item in _open(items):
        member = item.change.assignee_id
        if member is None:
            item.wanted[options.owner_property] = ""
        elif member not in found and trouble is not None:
            item.ends(trouble)
        elif member not in found and (after := members.unsure(member)):
            item.ends(Retry("Inbox has not been asked yet who the assignee is", after=after))
        elif member not in found or (owner := ids[found[member].email]) is None:
            strangers.add(member)
            _without_owner(item, "a member" if member not in found else "an owner in HubSpot")
        elif isinstance(owner, Exception):
            item.ends(owner)
        else:
            item.email, item.owner_remembered = found[member].email, found[member].email not in fresh
            item.wanted[options.owner_property] = owner
    if strangers:
        ctx.log.warning("owner_unknown", members=sorted(strangers), policy=options.unknown_owner)


def _without_owner(item: Item, what: str) -> None:
    text = f"{item.change.assignee_id} is not known as {what}"
    match options.unknown_owner:
        case "clear":
            item.wanted[options.owner_property] = ""
        case "dead_letter":
            item.ends(DeadLetter(text))
        case _:
            item.ends(Discard(text))


async def _read_contacts(items: list[Item]) -> None:
    """Those that have the prospect's id."""
    if not items:
        return
    asked = {
        "idProperty": options.id_property,
        "inputs": [{"id": key} for key in dict.fromkeys(item.key for item in items)],
        "properties": _properties(),
        "propertiesWithHistory": [],
    }
    answer = await hubspot.send("POST", f"{CONTACTS}/batch/read", about_setup=True, json=asked)
    found = {_property(contact, options.id_property): contact for contact in objects(answer, "results")}
    for item in items:
        item.contact = found.get(item.key)
    for error in objects(answer, "errors"):
        if error.get("category") != "OBJECT_NOT_FOUND":
            for item in items:
                if item.contact is None and item.key in named(error):
                    item.ends(_verdict(error, item))


async def _search_contacts(items: list[Item]) -> None:
    """Those that have the prospect's handle, with or without the @, in capitals or not."""
    if options.handle_property == "none":
        return
    by_handle: dict[str, list[Item]] = {}
    for item in items:
        by_handle.setdefault(item.handle.casefold(), []).append(item)
    for handles in _portions(list(by_handle)):
        asked = {
            "filterGroups": [{"filters": [_one_of(options.handle_property, handles)]}],
            "properties": _properties(),
            "sorts": [],
            "limit": 200,
            "after": "0",
        }
        answer = await hubspot.send("POST", f"{CONTACTS}/search", about_setup=True, json=asked)
        found: dict[str, list[dict[str, Any]]] = {}
        for contact in objects(answer, "results"):
            handle = _property(contact, options.handle_property).removeprefix("@").casefold()
            found.setdefault(handle, []).append(contact)
        for handle in handles:
            for item in by_handle[handle]:
                match found.get(handle, []):
                    case [contact]:
                        item.contact = contact
                    case [_, _, *_]:
                        item.ends(DeadLetter("several contacts have the prospect's handle"))


def _portions(handles: list[str]) -> Iterator[list[str]]:
    """As many as fit into one search; each stands in it twice."""
    some: list[str] = []
    for handle in handles:
        if sum(2 * len(each) + 7 for each in (*some, handle)) > SEARCHED:
            yield some
            some = []
        some.append(handle)
    if some:
        yield some


def _one_of(name: str, handles: list[str]) -> dict[str, Any]:
    values = [text for handle in handles for text in (handle, f"@{handle}")]
    return {"propertyName": name, "operator": "IN", "values": values}


def _properties() -> list[str]:
    names = {options.id_property, options.owner_property, *options.fields}
    return sorted(names | ({options.handle_property} - {"none"}))


def _property(contact: Mapping[str, Any], name: str) -> str:
    properties = contact.get("properties")
    value = properties.get(name) if isinstance(properties, dict) else None
    return "" if value is None else str(value)


def _one_each(items: list[Item], *, by_handle: bool) -> None:
    """Leave the last change for each contact. Those before it are discarded: it would undo them."""
    last: dict[tuple[str, str], Item] = {}
    for item in items:
        name = ("key", item.key)
        if item.contact is not None:
            name = ("contact", str(item.contact.get("id")))
        elif by_handle and item.handle:
            name = ("handle", item.handle.casefold())
        other = last.setdefault(name, item)
        if other is not item:
            before, last[name] = (other, item) if _later(item.change, other.change) else (item, other)
            before.ends(Discard("a later change has the same contact"))


def _later(one: AssigneeChange, other: AssigneeChange) -> bool:
    """Whether ``one``, which comes behind in the call, is not the older one."""
    if one.team_id == other.team_id:
        return one.seq >= other.seq
    return _when(one) >= _when(other)


def _when(change: AssigneeChange) -> float:
    moment = change.occurred_at
    return 0.0 if moment is None else moment.timestamp()


def _decide(item: Item) -> None:
    """What to write, or that there is nothing to."""
    change = item.change
    if item.contact is not None:
        # A contact that another prospect has led to keeps that one's id.
        missing = {} if _property(item.contact, options.id_property) else {options.id_property: item.key}
        wanted = item.wanted | missing
        item.write = {name: value for name, value in wanted.items() if _property(item.contact, name) != value}
        if not item.write:
            item.ends()
    elif not item.wanted.get(options.owner_property):
        item.ends(Discard("there is no contact, and no owner for one"))
    elif options.missing_contact == "create":
        item.write = _values(change, options.create_fields) | item.wanted | {options.id_property: item.key}
        if options.handle_property != "none" and item.handle:
            item.write.setdefault(options.handle_property, item.handle)
    else:
        text = f"HubSpot has no contact for prospect {item.key}"
        item.ends(Discard(text) if options.missing_contact == "skip" else DeadLetter(text))


async def _write(items: list[Item]) -> None:
    known = {str(item.contact["id"]): item for item in items if item.contact is not None}
    new = {item.key: item for item in items if item.contact is None}
    updates = [_input(item, name) for name, item in known.items()]
    creations = [_input(item, name) | {"idProperty": options.id_property} for name, item in new.items()]
    for path, inputs, of in (("update", updates, known), ("upsert", creations, new)):
        if not inputs:
            continue
        keys = hashlib.sha256("\n".join(item.trace for item in of.values()).encode()).hexdigest()
        try:
            answer = await hubspot.send(
                "POST", f"{CONTACTS}/batch/{path}", json={"inputs": inputs}, headers={IDEMPOTENCY_KEY: keys}
            )
        except Refused as refused:
            if refused.response.status_code == 400:
                # Each is tried alone now, and may turn out to have an owner who is one no more.
                for item in of.values():
                    owners.forget(item.email or "")
            raise
        _take_apart(answer, of)


def _input(item: Item, name: str) -> dict[str, Any]:
    # Without the trace HubSpot takes a batch as a whole, or not at all.
    return {"id": name, "properties": item.write, "objectWriteTraceId": item.trace}


def _take_apart(answer: dict[str, Any], of: dict[str, Item]) -> None:
    """What became of each, of those that a batch was made ``of``: by id of the contact or of the prospect."""
    for result in objects(answer, "results"):
        names = {result.get("id"), _property(result, options.id_property), result.get("objectWriteTraceId")}
        for name, item in of.items():
            if names & {name, item.trace}:
                item.ends()
    nobodys = None
    for error in objects(answer, "errors"):
        about = [item for name, item in of.items() if not item.ended and named(error) & {name, item.trace}]
        for item in about:
            item.ends(_verdict(error, item))
        nobodys = nobodys if about else error
    left = [item for item in of.values() if not item.ended]
    for item in left:
        if nobodys is not None and len(left) == 1:
            item.ends(_verdict(nobodys, item))
        else:
            text = "" if nobodys is None else f": {said(nobodys)}"
            item.ends(Retry(f"HubSpot has not said what became of it{text}"))


def _verdict(error: dict[str, Any], item: Item) -> Exception:
    """What one error of a 207 means for the change it is about."""
    text = f"HubSpot: {said(error)}"
    if codes_of(error) & SETUP_CODES:
        return NotSetUp(text)
    if error.get("category") not in PERMANENT:
        return Retry(text)
    if item.owner_remembered and item.email is not None:
        owners.forget(item.email)  # may be gone from HubSpot since
        return Retry(text, after=1)
    return DeadLetter(text)
