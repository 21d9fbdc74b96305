"""Salesforce on loopback, as far as worker/handlers/salesforce.py uses it: users, queues and records in memory, strict
about what the public REST documentation says, and misbehaviour when told to.

From developer.salesforce.com and help.salesforce.com:

- REST API Developer Guide, "Upsert Records Using sObject Collections" (resources_composite_sobjects_collections_upsert)
  and "Update Records Using sObject Collections": up to 200 records, each with its type, by the external id and without
  ``id``, or by ``id``; 400 for a body that is not well formed, else 200 with a result each, in their order.
- "Query" (resources_query): ``GET /query?q=``, ``{totalSize, done, nextRecordsUrl, records}``.
- "Status Codes and Error Responses" (errorcodes): a list of ``{message, errorCode}``; 401 ``INVALID_SESSION_ID``, 403
  ``REQUEST_LIMIT_EXCEEDED``, 404 ``NOT_FOUND``, 414 for a URI over 16,384 bytes.
- "Limit Info Header" (headers_api_usage): ``Sforce-Limit-Info: api-usage=10018/100000`` in each answer.
- "Assignment Rule Header" (headers_autoassign): ``Sforce-Auto-Assign``, TRUE where it is not sent; the rule then says
  who owns a lead.
- SOQL and SOSL Reference, "Quoted String Escape Sequences".
- Salesforce Help, "OAuth 2.0 Client Credentials Flow" and "OAuth 2.0 JWT Bearer Flow" (remoteaccess_oauth_jwt_flow):
  RS256; ``iss``, ``sub``, ``aud``, ``exp`` at most 3 minutes away; errors are 400 ``{error, error_description}``.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

VERSION = "/services/data/v62.0"
CLIENT, SECRET = "3MVG9-client", "s3cr3t-of-the-app"
RULE_OWNER = "005000000000RULE"[:15]
FIELDS = {"Inbox_Prospect_Id__c", "OwnerId", "LastName", "Company", "Website", "Description", "Tags__c", "Score__c"}
REQUIRED = {"Lead": ("LastName", "Company"), "Contact": ("LastName",)}
PREFIX = {"Lead": "00Q", "Contact": "003"}

_QUERY = re.compile(r"SELECT (.+) FROM (\w+) WHERE (?:(IsActive) = true AND )?(\w+) IN \((.*)\)", re.DOTALL)
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'(?:,|$)", re.DOTALL)
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


@dataclass(frozen=True)
class Answer:
    """An answer; a text is sent as it is."""

    status: int
    document: Any = None
    headers: dict[str, str] = field(default_factory=dict)


CUT = Answer(0)
AFTER = Answer(-1)  # cut after the request was carried out
Trouble = Callable[["Asked"], Answer | None]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Any
    body: Any
    query: str | None = None


def errors(status: int, code: str, message: str = "said so") -> Answer:
    return Answer(status, [{"message": message, "errorCode": code}])


def failure(code: str, message: str = "said so", *fields: str) -> dict[str, Any]:
    return {"success": False, "errors": [{"statusCode": code, "message": message, "fields": list(fields)}]}


class Salesforce:
    """What it has, and what it was asked. ``troubles`` are asked in turn about requests that are not logins, each until
    it has answered once; ``refusals``: results for records, by external id, used up one by one."""

    def __init__(self, object_name: str = "Lead") -> None:
        self.object = object_name
        self.users: dict[str, dict[str, Any]] = {}
        self.queues: set[str] = set()
        self.records: dict[str, dict[str, Any]] = {}
        self.tokens: list[str] = []
        self.valid: set[str] = set()
        self.public_key = ""
        self.usage = "per-app-api-usage=99/100(appName=Handoff); api-usage=1/100000"
        self.logins: list[dict[str, str]] = []
        self.login_trouble: Answer | None = None
        self.asked: list[Asked] = []
        self.troubles: list[Trouble] = []
        self.refusals: dict[str, list[dict[str, Any]]] = {}
        self.wrong: list[str] = []  # what the client did that it must never do
        self.page = 2000
        self.expires_in: int | None = None
        self.url = ""
        self._pages: dict[str, tuple[list[dict[str, Any]], int]] = {}
        self._lock = threading.RLock()

    # --- set up and look at

    def user(self, number: int, email: str, *, active: bool = True, username: str | None = None) -> str:
        key = f"005{number:012d}AAA"
        self.users[key] = {"Id": key, "Email": email, "Username": username or f"{number}@org", "IsActive": active}
        return key

    def queue(self, number: int) -> str:
        key = f"00G{number:012d}AAA"
        self.queues.add(key)
        return key

    def record(self, external: str, **values: Any) -> str:
        key = f"{PREFIX[self.object]}{len(self.records) + 1:012d}AAA"
        self.records[key] = {"Id": key, "Inbox_Prospect_Id__c": external, "OwnerId": "nobody yet"} | values
        return key

    def owners(self) -> dict[str, str]:
        return {record["Inbox_Prospect_Id__c"]: record["OwnerId"] for record in self.records.values()}

    def saves(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "PATCH"]

    def queries(self, of: str) -> list[str]:
        return [asked.query for asked in self.asked if asked.query is not None and f"FROM {of} " in asked.query]

    # --- answers

    def answer(self, method: str, target: str, headers: Any, raw: bytes) -> Answer:
        with self._lock:
            path = urlsplit(target).path
            if path == "/services/oauth2/token":
                return self._login(method, headers, raw)
            if len(target) > 16384:
                return Answer(414, "<html>URI too long</html>")
            found = parse_qs(urlsplit(target).query, strict_parsing=True).get("q") if "?" in target else None
            asked = Asked(method, unquote(path), headers, json.loads(raw) if raw else None, found[0] if found else None)
            self.asked.append(asked)
            return self._answer(asked)

    def _answer(self, asked: Asked) -> Answer:
        scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.valid:
            return errors(401, "INVALID_SESSION_ID", "Session expired or invalid")
        for trouble in list(self.troubles):
            found = trouble(asked)
            if found is not None:
                self.troubles.remove(trouble)
                if found is AFTER:
                    self._route(asked)
                    return CUT
                return found
        return self._route(asked)

    def _route(self, asked: Asked) -> Answer:
        if not asked.path.startswith(VERSION):
            return errors(404, "NOT_FOUND", "The requested resource does not exist")
        rest = asked.path.removeprefix(VERSION)
        if rest == "/query" or rest in self._pages:
            return self._query(asked, rest) if asked.method == "GET" else errors(405, "METHOD_NOT_ALLOWED")
        if rest == "/composite/sobjects":
            return self._save(asked, None) if asked.method == "PATCH" else errors(405, "METHOD_NOT_ALLOWED")
        if (match := re.fullmatch(r"/composite/sobjects/(\w+)/(\w+)", rest)) is not None:
            if asked.method != "PATCH":
                return errors(405, "METHOD_NOT_ALLOWED")
            if match[1] != self.object or match[2] != "Inbox_Prospect_Id__c":
                return errors(404, "NOT_FOUND", f"Provided external ID field does not exist: {match[2]}")
            return self._save(asked, match[2])
        return errors(404, "NOT_FOUND", "The requested resource does not exist")

    def _login(self, method: str, headers: Any, raw: bytes) -> Answer:
        if method != "POST" or headers.get("Content-Type") != "application/x-www-form-urlencoded":
            return Answer(400, {"error": "invalid_request", "error_description": "must be a posted form"})
        form = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        self.logins.append(form)
        if self.login_trouble is not None:
            return self.login_trouble
        problem = self._refused_login(form)
        if problem is not None:
            return Answer(400, {"error": problem, "error_description": "said so"})
        token = f"00D!token-{len(self.tokens)}"
        self.tokens.append(token)
        self.valid.add(token)
        answer: dict[str, Any] = {"access_token": token, "instance_url": "https://elsewhere.invalid"}
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        return Answer(200, answer | {"token_type": "Bearer", "issued_at": "1"})

    def _refused_login(self, form: dict[str, str]) -> str | None:
        if form.get("grant_type") == "client_credentials":
            known = (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
            return None if known else "invalid_client"
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return "unsupported_grant_type"
        import jwt

        try:
            claims = jwt.decode(
                form.get("assertion", ""),
                self.public_key,
                algorithms=["RS256"],
                audience="https://login.salesforce.com",
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except jwt.InvalidTokenError:
            return "invalid_grant"
        good = claims["iss"] == CLIENT and claims["sub"] == "sync@org" and claims["exp"] <= time.time() + 180
        return None if good else "invalid_grant"

    def _query(self, asked: Asked, rest: str) -> Answer:
        if rest in self._pages:
            rows, start = self._pages.pop(rest)
            return self._paged(rows, start)
        match = _QUERY.fullmatch(asked.query or "")
        if match is None:
            return errors(400, "MALFORMED_QUERY", f"unexpected token: {asked.query}")
        names, kind, active, by, listed = match[1].split(", "), match[2], match[3], match[4], match[5]
        values = []
        end = 0
        for literal in _LITERAL.finditer(listed):
            if literal.start() != end:
                break
            end = literal.end()
            values.append(re.sub(r"\\(.)", lambda m: _UNESCAPED.get(m[1], m[1]), literal[1], flags=re.DOTALL).lower())
        if end != len(listed) or not values:
            return errors(400, "MALFORMED_QUERY", "unexpected token in the list")
        if kind == "User":
            rows, known = list(self.users.values()), {"Id", "Email", "Username", "IsActive"}
        elif kind == self.object:
            rows, known = list(self.records.values()), FIELDS | {"Id"}
        else:
            return errors(400, "INVALID_TYPE", f"sObject type '{kind}' is not supported.")
        if not {*names, by} <= known:
            return errors(400, "INVALID_FIELD", f"No such column '{by}' on entity '{kind}'.")
        found = [row for row in rows if str(row.get(by)).lower() in values and (not active or row["IsActive"])]
        shown = [{"attributes": {"type": kind}} | {name: row.get(name) for name in names} for row in found]
        return self._paged(shown, 0)

    def _paged(self, rows: list[dict[str, Any]], start: int) -> Answer:
        end = start + self.page
        answer: dict[str, Any] = {"totalSize": len(rows), "done": end >= len(rows), "records": rows[start:end]}
        if end < len(rows):
            rest = f"/query/01g{len(self._pages):012d}-{end}"
            self._pages[rest] = (rows, end)
            answer["nextRecordsUrl"] = VERSION + rest
        return Answer(200, answer)

    def _save(self, asked: Asked, external: str | None) -> Answer:
        body = asked.body
        if asked.headers.get("Content-Type") != "application/json":
            return errors(415, "UNSUPPORTED_MEDIA_TYPE")
        if not isinstance(body, dict) or body.keys() != {"allOrNone", "records"} or body["allOrNone"] is not False:
            self.wrong.append("a body that is not as it should be")
            return errors(400, "JSON_PARSER_ERROR")
        records = body["records"]
        if not 0 < len(records) <= 200:
            self.wrong.append(f"{len(records)} records")
            return errors(400, "EXCEEDED_ID_LIMIT", "record limit reached. cannot submit more than 200 records")
        for record in records:
            named = record.keys() - {"attributes", "id"}
            if record.get("attributes") != {"type": self.object} or (external and "id" in record):
                self.wrong.append("a record that is not as it should be")
                return errors(400, "INVALID_FIELD", "wrong type, or an id with an external id")
            if named - FIELDS:
                column = next(iter(named - FIELDS))
                return errors(400, "INVALID_FIELD", f"No such column '{column}' on sobject of type {self.object}")
            if not all(value is None or isinstance(value, str) for name, value in record.items() if name in named):
                return errors(400, "JSON_PARSER_ERROR", "Cannot deserialize instance")
        keys = [record.get(external) if external else record.get("id") for record in records]
        if len(set(keys)) < len(keys):
            self.wrong.append("one record twice in a request")
        return Answer(200, [self._save_one(record, external, asked) for record in records])

    def _save_one(self, record: dict[str, Any], external: str | None, asked: Asked) -> dict[str, Any]:
        values = {name: value for name, value in record.items() if name not in {"attributes", "id"}}
        key = record.get("id")
        if external:
            if not values.get(external):
                return failure("MISSING_ARGUMENT", "external id not specified", external)
            found = [row["Id"] for row in self.records.values() if row.get(external) == values[external]]
            if len(found) > 1:
                return failure("DUPLICATE_EXTERNAL_ID")
            key = found[0] if found else None
        elif not re.fullmatch(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?", key or ""):
            return failure("MALFORMED_ID", "id value of incorrect type")
        elif key not in self.records:
            return failure("ENTITY_IS_DELETED", "entity is deleted")
        name = values.get("Inbox_Prospect_Id__c") or self.records[key or ""]["Inbox_Prospect_Id__c"]
        if self.refusals.get(name):
            return self.refusals[name].pop(0)
        owner = values["OwnerId"]
        user = self.users.get(owner)
        if user is not None and not user["IsActive"]:
            return failure("INACTIVE_OWNER_OR_USER", f"operation performed with inactive user [{owner}]", "OwnerId")
        if user is None and (owner not in self.queues or self.object != "Lead"):
            return failure("INVALID_CROSS_REFERENCE_KEY", "Owner ID: id value of incorrect type", "OwnerId")
        if self.object == "Lead" and asked.headers.get("Sforce-Auto-Assign", "TRUE").upper() != "FALSE":
            values["OwnerId"] = RULE_OWNER
        created = key is None
        if key is None:
            lacks = [name for name in REQUIRED[self.object] if not values.get(name)]
            if lacks:
                return failure("REQUIRED_FIELD_MISSING", f"Required fields are missing: {lacks}", *lacks)
            key = self.record(values["Inbox_Prospect_Id__c"])
        self.records[key].update(values)
        return {"id": key, "success": True, "errors": [], "created": created}


@contextlib.contextmanager
def running(salesforce: Salesforce) -> Iterator[Salesforce]:
    """Serves it at ``salesforce.url``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            return

        def serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = salesforce.answer(self.command, self.path, self.headers, raw)
            if answer.status == 0:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            text = answer.document if isinstance(answer.document, str) else json.dumps(answer.document)
            body = b"" if answer.document is None else text.encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if salesforce.usage and "oauth2" not in self.path:
                self.send_header("Sforce-Limit-Info", salesforce.usage)
            self.send_header("Content-Type", "application/json;charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PATCH = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    salesforce.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield salesforce
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
