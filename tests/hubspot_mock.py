"""HubSpot on loopback, as far as worker/handlers/hubspot.py uses it: contacts and owners in memory, every request and
every answer held to HubSpot's own OpenAPI description (tests/data/hubspot-v3.json), and misbehaviour when told to.

What the description leaves open is as HubSpot does it: batches of up to 100, all or nothing for those without trace
ids, ids that are not found named in a 207, properties that do not exist refused, searches of up to 3,000 characters.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters

SPEC = json.loads((Path(__file__).parent / "data" / "hubspot-v3.json").read_text())
# HubSpot says that its errors are of any type: this one is read.
SPEC["components"]["responses"]["Error"]["content"] = {
    "application/json": SPEC["components"]["responses"]["Error"]["content"]["*/*"]
}
API = OpenAPI.from_dict(SPEC)
TOKEN = "pat-test-0123456789"
NOW = "2026-03-01T12:00:00.000Z"
CONTACTS = "/crm/v3/objects/contacts"
BATCH = 100


@dataclass(frozen=True)
class Answer:
    """An answer; ``raw`` instead of ``document`` is sent as it is, and not held to the description."""

    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


CUT = Answer(0)
Trouble = Answer | Callable[[dict[str, Any]], Answer | None]


def error(status: int, category: str, message: str, *codes: str, **more: Any) -> Answer:
    document = {"status": "error", "category": category, "message": message, "correlationId": str(uuid.uuid4())} | more
    if codes:
        document["errors"] = [{"message": message, "code": code} for code in codes]
    return Answer(status, document)


def part(category: str, message: str, code: str | None = None, **context: list[str]) -> dict[str, Any]:
    """One error of a 207."""
    errors = [{"message": message, "code": code}] if code else []
    return {
        "status": "error",
        "category": category,
        "message": message,
        "context": context,
        "links": {},
        "errors": errors,
    }


class _Request:
    """What openapi-core asks a request for."""

    def __init__(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> None:
        parts = urlsplit(target)
        self.host_url, self.path, self.method = "https://api.hubapi.com", parts.path, method.lower()
        self.full_url_pattern = self.host_url + parts.path
        self.body = body or None
        self.content_type = headers.get("Content-Type", "application/json")
        from werkzeug.datastructures import Headers, ImmutableMultiDict

        self.parameters = RequestParameters(
            query=ImmutableMultiDict(parse_qsl(parts.query)), header=Headers(list(headers.items()))
        )


class _Response:
    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self.headers: Mapping[str, str] = answer.headers
        self.content_type = "application/json"
        self.data = json.dumps(answer.document).encode()


class HubSpot:
    """The account. ``wrong`` has what did not keep to the description; nobody may be content while it has anything."""

    def __init__(self) -> None:
        self.contacts: dict[str, dict[str, str]] = {}
        self.owners: dict[str, str] = {}  # id: e-mail
        self.properties = {
            *("hubspot_owner_id", "inbox_prospect_id", "twitterhandle", "firstname", "deal_value", "city"),
        }
        self.unique = {"inbox_prospect_id"}
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str] = []  # what writes were sent with
        self.headers: dict[str, str] = {}
        self.wrong: list[str] = []
        self._troubles: list[tuple[str, Trouble]] = []
        self._lock = threading.Lock()

    # What a test says and asks

    def contact(self, **properties: str) -> str:
        self.contacts[name := str(500 + len(self.contacts))] = properties
        return name

    def fail(self, path: str, *troubles: Trouble) -> None:
        """The next requests whose path ends so are answered with these, one each; a function may look and pass."""
        self._troubles += [(path, trouble) for trouble in troubles]

    def calls(self, path: str) -> list[dict[str, Any]]:
        return [asked for made, asked in self.made if made.endswith(path)]

    def owner_of(self, prospect: str) -> str | None:
        found = [each for each in self.contacts.values() if each.get("inbox_prospect_id") == prospect]
        assert len(found) < 2, "a unique property is not"
        return found[0].get("hubspot_owner_id") if found else None

    # What it answers

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        with self._lock:
            request = _Request(method, target, body, headers)
            try:
                API.validate_request(request)  # type: ignore[arg-type]
            except Exception as refused:
                self.wrong.append(f"{method} {target}: {refused!r} {refused.__cause__!r}")
                return error(400, "VALIDATION_ERROR", "not as described")
            asked = json.loads(body) if body else dict(parse_qsl(urlsplit(target).query))
            self.made.append((request.path, asked))
            if (key := headers.get("Idempotency-Key")) is not None:
                self.keys.append(key)
            if headers.get("Authorization") != f"Bearer {TOKEN}":
                answer = error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
            else:
                answer = self._trouble(request.path, asked) or self._answer(request.path, asked)
            if answer.raw is None and answer.status:
                try:
                    API.validate_response(request, _Response(answer))  # type: ignore[arg-type]
                except Exception as refused:
                    self.wrong.append(f"answer to {target}: {refused!r} {refused.__cause__!r}")
            return answer

    def _trouble(self, path: str, asked: dict[str, Any]) -> Answer | None:
        for at, (ending, trouble) in enumerate(self._troubles):
            if path.endswith(ending):
                del self._troubles[at]
                return trouble(asked) if callable(trouble) else trouble
        return None

    def _answer(self, path: str, asked: dict[str, Any]) -> Answer:
        inputs = asked.get("inputs", [])
        if len(inputs) > BATCH:
            return error(400, "VALIDATION_ERROR", "The maximum batch size is 100")
        if len({each["id"] for each in inputs}) < len(inputs):
            return error(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input")
        match path.rpartition("/")[2]:
            case "owners":
                return self._owners(asked)
            case "search":
                return self._search(asked)
            case "read":
                return self._read(asked)
            case "update":
                return self._write(inputs, self._updated)
            case _:
                return self._write(inputs, self._upserted)

    def _owners(self, asked: dict[str, Any]) -> Answer:
        found = [
            {"id": name, "email": email, "type": "PERSON", "archived": False, "createdAt": NOW, "updatedAt": NOW}
            for name, email in self.owners.items()
            if email.casefold() == asked["email"].casefold()
        ]
        return Answer(200, {"results": found})

    def _search(self, asked: dict[str, Any]) -> Answer:
        if len(json.dumps(asked)) > 3000:
            return error(400, "VALIDATION_ERROR", "the request is too long")
        [group] = asked["filterGroups"]
        [wanted] = group["filters"]
        assert wanted["operator"] == "IN"
        assert all(value == value.lower() for value in wanted["values"])
        if wanted["propertyName"] not in self.properties:
            return error(400, "VALIDATION_ERROR", "There was a problem with the request.")
        found = [
            name
            for name, properties in self.contacts.items()
            if properties.get(wanted["propertyName"], "").lower() in wanted["values"]
        ]
        return Answer(200, {"total": len(found), "results": [self._shown(name, asked) for name in found]})

    def _read(self, asked: dict[str, Any]) -> Answer:
        if asked["idProperty"] not in self.unique:
            return error(400, "VALIDATION_ERROR", f"Property {asked['idProperty']} is not unique")
        found, missing = [], []
        for each in asked["inputs"]:
            name = self._named(asked["idProperty"], each["id"])
            if name is None:
                missing.append(each["id"])
            else:
                found.append(self._shown(name, asked))
        message = "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid."
        return self._batch(found, [part("OBJECT_NOT_FOUND", message, ids=missing)] if missing else [])

    def _named(self, id_property: str, value: str) -> str | None:
        return next((name for name, each in self.contacts.items() if each.get(id_property) == value), None)

    def _shown(self, name: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        properties = self.contacts[name]
        if asked is not None:
            properties = {each: properties[each] for each in asked["properties"] if each in properties}
        return {"id": name, "properties": properties, "archived": False, "createdAt": NOW, "updatedAt": NOW}

    def _write(self, inputs: list[dict[str, Any]], write: Callable[[dict[str, Any]], dict[str, Any]]) -> Answer:
        results, errors = [], []
        unknown = {name for each in inputs for name in each["properties"]} - self.properties
        if unknown:
            message = f"Property values were not valid: {min(unknown)} does not exist"
            return error(400, "VALIDATION_ERROR", message, "PROPERTY_DOESNT_EXIST")
        for each in inputs:
            owner = each["properties"].get("hubspot_owner_id")
            if owner and owner not in self.owners:
                errors.append(self._part(each, "VALIDATION_ERROR", f"{owner} is not a valid owner", "INVALID_OWNER_ID"))
                continue
            try:
                results.append(write(each))
            except KeyError:
                errors.append(self._part(each, "OBJECT_NOT_FOUND", "Could not get some CONTACT objects"))
        return self._batch(results, errors)

    def _part(self, each: dict[str, Any], category: str, message: str, code: str | None = None) -> dict[str, Any]:
        return part(category, message, code, ids=[each["id"]], objectWriteTraceId=[each["objectWriteTraceId"]])

    def _updated(self, each: dict[str, Any]) -> dict[str, Any]:
        self._set(each["id"], each["properties"])
        return self._shown(each["id"])

    def _upserted(self, each: dict[str, Any]) -> dict[str, Any]:
        name = self._named(each["idProperty"], each["id"])
        new = name is None
        name = name or self.contact()
        self._set(name, each["properties"] | {each["idProperty"]: each["id"]})
        return self._shown(name) | {"new": new, "objectWriteTraceId": each["objectWriteTraceId"]}

    def _set(self, name: str, properties: dict[str, str]) -> None:
        self.contacts[name] = {
            each: value
            for each, value in (self.contacts[name] | properties).items()
            if value  # an empty one clears
        }

    def _batch(self, results: list[dict[str, Any]], errors: list[dict[str, Any]]) -> Answer:
        document: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": NOW, "completedAt": NOW}
        if errors:
            return Answer(207, document | {"numErrors": len(errors), "errors": errors})
        return Answer(200, document)


class Server:
    """Serves ``account``, which may be another for each test: a client's connections and its TLS context are kept."""

    def __init__(self, account: HubSpot | None = None) -> None:
        self.account = account or HubSpot()
        self.url = ""


@contextlib.contextmanager
def serving(account: HubSpot | None = None) -> Iterator[Server]:
    """A server on a port of loopback."""
    found = Server(account)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            open_connections.add(self.connection)

        def log_message(self, *_: Any) -> None:
            return

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = found.account.handle(self.command, self.path, self.headers, body)
            if not answer.status:
                self.close_connection = True
                return
            data = json.dumps(answer.document).encode() if answer.raw is None else answer.raw
            self.send_response(answer.status)
            for name, value in (found.account.headers | dict(answer.headers)).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _any  # noqa: N815 - the library's names

    open_connections: set[socket.socket] = set()

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Of clients that do not wait for their answer."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield found
    finally:
        server.shutdown()
        thread.join()
        for connection in open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()
