"""The real ``python -m ingress``, posted to over HTTP: what gets in, what is refused, and with which words."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
import redis

from ingress.signature import HEADER
from tests.ingress_kit import PARTITIONS, PLAIN, SECRET, Ingress, event, inboxes, ingress, signed
from tests.processes import until
from worker.store.keys import PartitionKeys, partition_of

pytestmark = pytest.mark.server

MAX_BODY = 4096
OWN = "own_secret_of_acme"


@pytest.fixture(scope="module")
def door(server_url: str) -> Iterator[Ingress]:
    """One ingress for the tests that leave it as it was. Its prefix is the module's own."""
    with ingress(
        server_url,
        "door",
        WEBHOOK_SECRET=f"{SECRET},the_next_secret",
        TEAM_SECRETS=f"acme={OWN},acme=older_{OWN}",
        MAX_BODY=str(MAX_BODY),
        SIGNATURE_MAX_AGE="300",
        MAX_BACKLOG="0",
    ) as found:
        yield found


def taken(client: redis.Redis) -> list[dict[bytes, bytes]]:
    return inboxes(client, "door")


@pytest.fixture(autouse=True)
def _emptied(client: redis.Redis) -> None:
    for partition in range(PARTITIONS):
        client.delete(PartitionKeys("door", partition).inbox)


def test_a_signed_delivery_is_stored_byte_for_byte_in_its_teams_partition(door: Ingress, client: redis.Redis) -> None:
    body = event("team7", note="é  \n ") + b" \r\n"
    answer = door.post(body)
    assert (answer.status_code, answer.content) == (202, b"")
    inbox = PartitionKeys("door", partition_of("team7", PARTITIONS)).inbox
    assert [fields for _, fields in client.xrange(inbox)] == [{b"b": body}]


@pytest.mark.parametrize("team", ["team8", "with space", "ünï", "a/b", "a%2Fb", "t" * 1024, "{p00}"])
def test_the_team_of_the_path_is_stored_beside_the_body(door: Ingress, client: redis.Redis, team: str) -> None:
    body = event(None)
    assert door.post(body, f"{PLAIN}/{quote(team, safe='')}").status_code == 202
    inbox = PartitionKeys("door", partition_of(team, PARTITIONS)).inbox
    assert [fields for _, fields in client.xrange(inbox)] == [{b"b": body, b"t": team.encode()}]


@pytest.mark.parametrize("team", ["", "t" * 1025, "%FF"])
def test_a_path_with_no_possible_team_is_not_found(door: Ingress, team: str) -> None:
    assert door.code(event(), f"{PLAIN}/{team}") == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"null", b"[]", b"\xff\xfe", b'{"teamId": 7}', b'{"teamId": ""}', b"[" * MAX_BODY, b"\x00" * 100],
)
def test_a_signed_body_that_is_no_event_is_taken_all_the_same(door: Ingress, client: redis.Redis, body: bytes) -> None:
    """It is for the sequencer to say what it is worth; refused, it would be sent for six hours and then be lost."""
    assert door.post(body).status_code == 202
    assert taken(client) == [{b"b": body}]


def test_every_secret_is_accepted_while_they_are_rotated(door: Ingress) -> None:
    body = event()
    assert door.post(body, headers=signed(body, "the_next_secret")).status_code == 202


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "signature_missing"),
        ({HEADER: "rubbish"}, "signature_malformed"),
        ({HEADER: f"t=1,v1={'0' * 64}"}, "signature_invalid"),
        (signed(event(), "not our secret"), "signature_invalid"),
        (signed(b"another body"), "signature_invalid"),
        (signed(event(), at=time.time() - 1000), "signature_stale"),
        (signed(event(), at=time.time() + 1000), "signature_future"),
    ],
)
def test_an_unsigned_delivery_is_refused_and_not_stored(
    door: Ingress, client: redis.Redis, headers: dict[str, str], code: str
) -> None:
    assert door.code(event(), headers=headers) == (401, code)
    assert taken(client) == []


def test_a_team_with_its_own_secrets_gets_in_by_its_path_and_them_only(door: Ingress, client: redis.Redis) -> None:
    body = event("acme")
    own, older, common = signed(body, OWN), signed(body, "older_" + OWN), signed(body)
    assert door.post(body, f"{PLAIN}/acme", own).status_code == 202
    assert door.post(body, f"{PLAIN}/acme", older).status_code == 202
    assert door.code(body, f"{PLAIN}/acme", common) == (401, "signature_invalid")
    assert door.code(body, PLAIN, own) == (401, "signature_invalid")
    assert door.code(body, f"{PLAIN}/other", own) == (401, "signature_invalid")
    assert door.code(body, PLAIN, common) == (401, "team_secret_required")
    assert len(taken(client)) == 2


@pytest.mark.parametrize("size", [MAX_BODY + 1, 3_000_000, 20_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_body_over_the_limit_is_refused(door: Ingress, client: redis.Redis, size: int, chunked: bool) -> None:
    body = b"x" * size
    parts = (body[start : start + 65536] for start in range(0, size, 65536))
    try:
        answer = door.http.post(PLAIN, content=parts if chunked else body, headers=signed(body))
    except httpx.TransportError:
        assert size == 20_000_000, "only what is far too large is cut off"
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert taken(client) == []
    assert door.ready()


def test_a_sender_that_listens_only_after_its_body_learns_that_it_is_too_large(door: Ingress) -> None:
    """Answered and cut off while it still sends, it would see a broken connection, and send the same again."""
    for _ in range(20):
        assert raw(door, head(b"", "Content-Length: 8000000") + b"x" * 8_000_000, b"}}").startswith(b"HTTP/1.1 413 ")


def test_a_body_of_exactly_the_limit_is_accepted_also_in_chunks(door: Ingress, client: redis.Redis) -> None:
    body = b"x" * MAX_BODY
    assert door.post(body).status_code == 202
    answer = door.http.post(PLAIN, content=iter([body[:1000], body[1000:]]), headers=signed(body))
    assert answer.status_code == 202
    assert taken(client) == [{b"b": body}, {b"b": body}]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", PLAIN, "POST"),
        ("HEAD", PLAIN, "POST"),
        ("PUT", f"{PLAIN}/team", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_are_allowed(door: Ingress, method: str, path: str, allow: str) -> None:
    answer = door.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/inboxes", "/readyz/", "/webhooks/inbox2/team"])
def test_other_paths_are_not_found(door: Ingress, path: str) -> None:
    assert door.code(event(), path) == (404, "not_found")


def test_the_pages_for_operators(door: Ingress) -> None:
    assert door.http.get("/healthz").text == "ok\n"
    nobody = {"live": 0, "deaf": 0, "silent": 0}
    assert door.http.get("/readyz").json() == {"ready": True, "partitions": PARTITIONS, "workers": nobody}
    assert door.http.head("/healthz").status_code == 200
    before = door.metric('handoff_ingress_deliveries_total{outcome="accepted"}')
    forged = door.metric('handoff_ingress_deliveries_total{outcome="forged"}')
    bytes_before = door.metric("handoff_ingress_bytes_total")
    body = event()
    door.post(body)
    door.post(body, headers=signed(b"another body"))
    assert door.metric('handoff_ingress_deliveries_total{outcome="accepted"}') == before + 1
    assert door.metric('handoff_ingress_deliveries_total{outcome="forged"}') == forged + 1
    assert door.metric("handoff_ingress_bytes_total") == bytes_before + len(body)
    assert door.metric("handoff_ingress_ready") == 1
    assert door.metric("handoff_ingress_in_flight") == 1, "the one that asks"


def raw(door: Ingress, request: bytes, until_seen: bytes) -> bytes:
    """Send ``request`` as it is; what came back by the time that ``until_seen`` was in it, or the connection's end."""
    with socket.create_connection((door.http.base_url.host, door.http.base_url.port or 0), timeout=10) as connection:
        connection.sendall(request)
        seen = b""
        while until_seen not in seen and (part := connection.recv(65536)):
            seen += part
        return seen


def head(body: bytes, *lines: str) -> bytes:
    fields = [f"{name}: {value}" for name, value in signed(body).items()]
    return "\r\n".join([f"POST {PLAIN} HTTP/1.1", "Host: h", *fields, *lines, "", ""]).encode()


def test_a_sender_that_asks_first_is_told_to_go_on_or_not(door: Ingress) -> None:
    body = event()
    go_on = raw(door, head(body, f"Content-Length: {len(body)}", "Expect: 100-continue"), b"\r\n\r\n")
    assert go_on.startswith(b"HTTP/1.1 100 ")
    refused = raw(door, head(body, f"Content-Length: {MAX_BODY + 1}", "Expect: 100-continue"), b"}}")
    assert refused.startswith(b"HTTP/1.1 413 ")


def test_requests_sent_in_one_go_are_all_answered(door: Ingress, client: redis.Redis) -> None:
    body = event()
    request = head(body, f"Content-Length: {len(body)}") + body
    last = head(body, f"Content-Length: {len(body)}", "Connection: close") + body
    assert raw(door, request * 4 + last, b"nothing: until it is closed").count(b"HTTP/1.1 202 ") == 5
    assert len(taken(client)) == 5


@pytest.mark.parametrize(
    ("line", "outcome"), [("Content-Length: 4000", "body_incomplete"), ("Transfer-Encoding: chunked", "forged")]
)
def test_a_body_that_breaks_off_is_not_stored(door: Ingress, client: redis.Redis, line: str, outcome: str) -> None:
    body = event()
    counter = f'handoff_ingress_deliveries_total{{outcome="{outcome}"}}'
    before = door.metric(counter)
    with socket.create_connection((door.http.base_url.host, door.http.base_url.port or 0)) as connection:
        connection.sendall(head(body, line) + (b"30\r\n" if "chunked" in line else b"") + body[:20])
    until(lambda: door.metric(counter) == before + 1, f"it was counted as {outcome}")
    assert taken(client) == []


def test_nothing_of_secrets_or_bodies_is_logged(door: Ingress) -> None:
    body = event("team1", note="Very Private")
    door.post(body)
    door.post(body, headers=signed(body, "guessed_secret"))
    door.process.wait_for_output("delivery_refused")
    for word in ("Very Private", SECRET, OWN, "guessed_secret", signed(body)[HEADER][-64:]):
        assert word not in door.process.output
