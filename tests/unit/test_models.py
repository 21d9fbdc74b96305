"""The provider's events as models: nothing sent is refused, changed or lost, and nothing personal shows in a repr."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import envelope, models
from worker.core.models import Context, EventV1, EventV2, LegacyEvent, Wire, parse
from worker.core.models.v1 import LastMessage, PlatformData, UrlEntity

DATA = Path(__file__).parents[1] / "data"
SAMPLES = sorted((DATA / "events").glob("*.json"))
SCHEMA: dict[str, list[str]] = json.loads((DATA / "inbox-v1-properties.json").read_text())["objects"]
MODELS: dict[str, type[Wire]] = {
    **{name: getattr(models, name) for name in models.__all__ if name != "parse"},
    "LastMessage": LastMessage,
    "PlatformData": PlatformData,
    "UrlEntity": UrlEntity,
}


def sample(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / "events" / f"{name}.json").read_text())
    return document


def read(document: object) -> EventV1 | EventV2 | LegacyEvent:
    return parse(json.dumps(document).encode())


def v1(data: object) -> EventV1:
    event = read({"id": "e1", "seq": 1, "teamId": "t1", "type": "prospect.enriched", "version": "1.0", "data": data})
    assert isinstance(event, EventV1)
    return event


def context(fields: dict[str, Any]) -> Context:
    prospect = v1({"prospect": {"platformId": "1", "context": fields}}).prospect
    assert prospect is not None
    assert prospect.context is not None
    return prospect.context


def sent_back(event: Wire) -> object:
    return json.loads(event.model_dump_json(exclude_unset=True))


def v2(type_: str, object_: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """An envelope as PROVIDER.md 7 describes it."""
    return {
        "id": "ck9v2m5nj0xp4wq7ybftrae8",
        "seq": 211,
        "type": type_,
        "apiVersion": "2",
        "createdAt": "2025-01-15T14:20:00.000Z",
        "object": object_,
        "data": data,
    }


CONTACT = {"type": "contact", "id": "n7kxqm5d9iu2sgdf6jbw4h36", "url": "/contacts/n7kxqm5d9iu2sgdf6jbw4h36"}
THREAD = {"type": "thread", "id": "l44e15irdq4db30i77cgphhx", "url": "/threads/l44e15irdq4db30i77cgphhx"}
MESSAGE = {"type": "message", "id": "p8rvk2m5j0xn4wq7ybftcael", "url": "/messages/p8rvk2m5j0xn4wq7ybftcael"}
V2_EVENTS = [
    v2("contact.assigneeChanged", CONTACT, {"assigneeId": "r3km7xj9wq5p2bvnhfdteoly"}),
    v2("contact.assigneeChanged", CONTACT, {"assigneeId": None}),
    v2("thread.unassigned", THREAD, {"assigneeId": None}),
    v2("thread.deleted", THREAD, {"accountLinkId": "df6jbw4h36qm5d9iu2sgn7kx", "platform": "twitter"}),
    v2("message.deleted", MESSAGE, {"threadId": "l44e15irdq4db30i77cgphhx", "scope": "all"}),
    v2("message.reactionAdded", MESSAGE, {"threadId": "l44", "emoji": "+1", "authorPlatformId": "1876543210987654321"}),
    v2("contact.statusChanged", CONTACT, {"statusId": None}),
    v2("contact.tagsChanged", CONTACT, {"tagIds": ["l44e15irdq4db30i77cgphhx"]}),
    v2("contact.notesChanged", CONTACT, {"notes": "Met in Berlin"}),
    v2("contact.valuationChanged", CONTACT, {"valuation": 2500.5}),
    v2("target.followUpSent", CONTACT, {"threadId": "l44", "messageId": "p8r", "contactId": None, "stepNumber": 2}),
    v2("campaign.started", {"type": "campaign", "id": "c1", "url": "/campaigns/c1"}, {}),
]
LEGACY = {
    "event": "targetReplied",
    "platform": "twitter",
    "timestamp": "2025-01-15T14:20:00.000Z",
    "version": "1.0",
    "source": "inbox",
    "data": {
        "team": {"id": "hzcai5t59nn9vsck3rbuepyg", "name": "Acme"},
        "accountLink": {"id": "df6jbw4h36qm5d9iu2sgn7kx", "username": "acme"},
        "message": {"id": "p8rvk2m5j0xn4wq7ybftcael", "content": "Tell me more", "origin": None, "userId": None},
        "external": {"id": "n7kxqm5d9iu2sgdf6jbw4h36", "name": "Sarah Chen"},
        "thread": {"id": "l44e15irdq4db30i77cgphhx"},
        "campaign": {"id": "c1", "name": "Launch"},
    },
}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_of_the_provider_comes_back_as_it_was_sent(path: Path) -> None:
    """Times keep the provider's spelling; null stays null and absent stays absent."""
    document = json.loads(path.read_text())
    event = parse(path.read_bytes())
    assert isinstance(event, EventV1)
    assert (event.id, event.seq, event.team_id) == (document["id"], document["seq"], document["teamId"])
    assert event.timestamp is not None
    assert event.timestamp.tzinfo is not None
    assert sent_back(event) == document
    assert event.model_dump(mode="json", exclude_unset=True) == document


@pytest.mark.parametrize("document", V2_EVENTS, ids=lambda document: document["type"])
def test_an_event_of_version_2_is_read_and_comes_back(document: dict[str, Any]) -> None:
    event = read(document)
    assert isinstance(event, EventV2)
    assert event.created_at == datetime(2025, 1, 15, 14, 20, tzinfo=UTC)
    assert event.object is not None
    assert event.object.id == document["object"]["id"]
    assert event.data is not None
    assert not event.data.model_extra, "a documented value has no field"
    assert sent_back(event) == document


def test_a_legacy_event_is_read_and_comes_back() -> None:
    event = read(LEGACY)
    assert isinstance(event, LegacyEvent)
    assert event.event == "targetReplied"
    assert event.team_id == "hzcai5t59nn9vsck3rbuepyg"
    assert sent_back(event) == LEGACY


@pytest.mark.parametrize("name", SCHEMA)
def test_every_property_of_the_providers_schema_has_a_field(name: str) -> None:
    """A field that is missing would still be kept, but without a type."""
    model = MODELS[name]
    assert set(SCHEMA[name]) <= {field.alias for field in model.model_fields.values()}


def test_the_prospect_is_found_in_either_kind_of_event() -> None:
    changed, assigned = read(sample("prospect.assigneeChanged")), read(sample("thread.assigned"))
    assert isinstance(changed, EventV1)
    assert isinstance(assigned, EventV1)
    assert changed.thread is None
    assert assigned.thread is not None
    assert changed.prospect is not None
    assert assigned.prospect is not None
    assert changed.prospect.external_id == assigned.prospect.external_id == "n7kxqm5d9iu2sgdf6jbw4h36"
    assert changed.prospect.context is not None
    assert changed.prospect.context.assignee_id == assigned.thread.assignee_id == "r3km7xj9wq5p2bvnhfdteoly"


@pytest.mark.parametrize(
    ("fields", "known", "assignee"),
    [
        ({"tags": []}, False, None),
        ({"assigneeId": None}, True, None),
        ({"assigneeId": "r3km7xj9wq5p2bvnhfdteoly"}, True, "r3km7xj9wq5p2bvnhfdteoly"),
    ],
)
def test_an_absent_assignee_is_told_from_nobody(fields: dict[str, Any], known: bool, assignee: str | None) -> None:
    read_context = context(fields)
    assert read_context.assignee_known is known
    assert read_context.assignee_id == assignee
    assert read_context.has("notes") is False
    assert read_context.model_dump(mode="json", exclude_unset=True) == fields


def test_unknown_fields_types_and_enum_values_are_kept() -> None:
    document = sample("prospect.assigneeChanged")
    document |= {"type": "prospect.teleported", "version": "1.7", "actor": {"id": "u1"}}
    document["data"]["prospect"] |= {"verified": "galactic", "mood": ["calm"], "accountStatus": "active"}
    event = read(document)
    assert isinstance(event, EventV1)
    assert event.prospect is not None
    assert event.prospect.model_extra == {"mood": ["calm"]}
    assert event.prospect.account_status == "active"
    assert sent_back(event) == document


def test_models_can_be_made_by_hand_in_either_spelling() -> None:
    assert Context(assignee_id="m1") == Context(assigneeId="m1")
    assert Context(assignee_id="m1").model_dump(exclude_unset=True) == {"assigneeId": "m1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("displayName", {"first": "Sarah"}),
        ("followerCount", "12,840"),
        ("followerCount", "12840"),
        ("isProtected", "yes"),
        ("lastUpdatedAt", "last Tuesday"),
        ("lastUpdatedAt", 1736950800),
        ("context", "none"),
        ("platformData", [1]),
        ("confidence", None),
    ],
)
def test_a_value_of_another_type_is_kept_and_spoils_nothing_else(name: str, value: object) -> None:
    document = sample("prospect.assigneeChanged")
    document["data"]["prospect"][name] = value
    event = read(document)
    assert isinstance(event, EventV1)
    assert event.prospect is not None
    [field] = [field for field, info in type(event.prospect).model_fields.items() if info.alias == name]
    assert getattr(event.prospect, field) == value
    assert event.prospect.username == "sarahchen"
    assert sent_back(event) == document


def test_ids_are_texts_to_the_last_digit() -> None:
    event = parse(b'{"id": 7, "seq": 1, "data": {"prospect": {"platformId": 1876543210987654321}}}')
    assert isinstance(event, EventV1)
    assert event.id == "7"
    assert event.prospect is not None
    assert event.prospect.platform_id == "1876543210987654321"


@pytest.mark.parametrize(
    ("sent", "moment", "dumped"),
    [
        ("2025-01-15T14:20:00.120Z", datetime(2025, 1, 15, 14, 20, 0, 120_000, UTC), "2025-01-15T14:20:00.120Z"),
        ("2025-01-15T14:20:00.123456Z", datetime(2025, 1, 15, 14, 20, 0, 123_456, UTC), "2025-01-15T14:20:00.123456Z"),
        ("2025-01-15T16:20:00+02:00", datetime(2025, 1, 15, 14, 20, tzinfo=UTC), "2025-01-15T16:20:00.000+02:00"),
        ("2025-01-15T14:20:00", datetime(2025, 1, 15, 14, 20, tzinfo=UTC), "2025-01-15T14:20:00.000Z"),
    ],
)
def test_times_have_a_zone_and_are_written_as_the_provider_does(sent: str, moment: datetime, dumped: str) -> None:
    event = read({"id": "e1", "seq": 1, "type": "x", "timestamp": sent})
    assert isinstance(event, EventV1)
    assert event.timestamp == moment
    assert event.timestamp.tzinfo is not None
    assert event.model_dump(mode="json", exclude_unset=True)["timestamp"] == dumped


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"Sarah"', b"null", b'{"notes": "Sarah"', b"\xff\xfe{", b"[" * 100_000, rb'{"\ud83d": "Sarah"}'],
    ids=["empty", "list", "text", "null", "cut", "bytes", "deep", "surrogate"],
)
def test_what_is_no_object_is_one_error_that_does_not_quote_it(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^the body is not (JSON|a JSON object)$") as caught:
        parse(body)
    assert caught.value.__cause__ is None


def test_a_body_nested_as_deep_as_the_sequencer_lets_pass_is_read() -> None:
    body = b'{"id": "e1", "seq": 1, "teamId": "t1", "type": "x", "data": {"odd": ' + b"[" * 900 + b"]" * 900 + b"}}"
    assert envelope.read(body).id == "e1"
    event = parse(body)
    assert isinstance(event, EventV1)
    assert event.id == "e1"


SECRETS = [
    "Sarah", "sarahchen", "Product designer", "San Francisco", "http", "enterprise", "pricing",
    "Berlin", "/contacts", "Tell me", "Acme", "Launch", "mood-of-hers",
]  # fmt: skip


@pytest.mark.parametrize("document", [*(json.loads(path.read_text()) for path in SAMPLES), *V2_EVENTS, LEGACY])
@pytest.mark.parametrize("show", [repr, str], ids=["repr", "str"])
def test_a_repr_has_ids_and_nothing_about_a_person(document: dict[str, Any], show: Any) -> None:
    document = {**document, "extra": "mood-of-hers"}
    text = show(read(document))
    assert not [secret for secret in SECRETS if secret in text]
    for identity in (document.get("id"), document.get("type"), document.get("event")):
        assert identity is None or identity in text


def test_a_repr_does_not_show_an_id_that_is_no_id() -> None:
    assert "Sarah" not in repr(v1({"prospect": {"platformId": {"name": "Sarah"}, "externalId": ["Sarah"]}}))


KNOWN = sorted({field.alias or "" for model in MODELS.values() for field in model.model_fields.values()})
names = st.sampled_from([*KNOWN, "model_config", "__class__", "model_fields_set", "has"]) | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
times = st.datetimes(timezones=st.just(UTC) | st.none()).map(datetime.isoformat)
documents = st.recursive(
    scalars | times,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=8),
    max_leaves=30,
)


@given(st.dictionaries(names, documents, max_size=8), st.sampled_from(["version", "apiVersion", "event"]))
def test_no_data_makes_an_event_unreadable(data: dict[str, Any], kind: str) -> None:
    """And the dump has every key that came, at the top and in the data."""
    event = read({"id": "e1", "seq": 1, kind: "1.0", "data": data})
    repr(event)
    dumped = event.model_dump(mode="json", exclude_unset=True)
    assert dumped.keys() == {"id", "seq", kind, "data"}
    assert dumped["data"].keys() == data.keys()


@given(st.dictionaries(names, documents, max_size=8))
def test_any_object_can_be_read(document: dict[str, Any]) -> None:
    repr(read(document))


def test_the_models_import_nothing_of_ours_but_themselves_plain_documents_and_the_errors() -> None:
    found = set()
    for path in Path(models.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found.add(node.module or "")
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
    ours = {name for name in found if name.split(".")[0] in {"worker", "ingress"}}
    allowed = ("worker.core.models", "worker.core.document", "worker.errors")
    assert not {name for name in ours if not name.startswith(allowed)}
