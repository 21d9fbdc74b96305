"""Requests nobody should have sent, byte by byte, to the real ingress: 2xx, 4xx or 503, and nothing unsigned stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import hostile
from tests.fuzz.door_kit import answers, good, request, sized, statuses, unharmed
from tests.fuzz.profile import examples
from tests.ingress_kit import PLAIN, Ingress, event, inboxes, ingress, signed
from worker.store.keys import PartitionKeys

pytestmark = pytest.mark.server

BODY = event("team", 1)
CLOSE = "Connection: close"
CHUNKED = "Transfer-Encoding: chunked"
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def signed_as(body: bytes, sent: bytes, *lines: str) -> bytes:
    """The head signs ``body``, and ``sent`` follows it."""
    return request(body, *lines)[: -len(body)] + sent


def in_chunks(*parts: bytes) -> bytes:
    return signed_as(BODY, b"".join(parts), CHUNKED, CLOSE)


CASES: dict[str, tuple[bytes, list[int]]] = {
    # Two lengths, or one that is none. What is stored is what was signed, however a proxy in front took it.
    "both lengths": (signed_as(BODY, IN_CHUNKS, f"Content-Length: {len(BODY)}", CHUNKED, CLOSE), [202]),
    "both, short": (request(b"", CHUNKED, "Content-Length: 5", CLOSE, sign=False) + IN_CHUNKS, [401]),
    "two lengths": (sized(BODY, "Content-Length: 3", CLOSE), [400]),
    "a list": (request(BODY, f"Content-Length: {len(BODY)}, {len(BODY)}", CLOSE), [400]),
    "negative": (request(BODY, "Content-Length: -1", CLOSE), [400]),
    "with a sign": (request(BODY, f"Content-Length: +{len(BODY)}", CLOSE), [400]),
    "without end": (request(BODY, "Content-Length: 99999999999999999999999", CLOSE), [400]),
    "2^64-1": (request(BODY, "Content-Length: 18446744073709551615", CLOSE), [431]),
    "2^63": (request(BODY, "Content-Length: 9223372036854775808", CLOSE), [413]),
    "another coding": (request(BODY, "Transfer-Encoding: gzip", CLOSE), [400]),
    "nearly chunked": (request(BODY, "Transfer-Encoding: xchunked", CLOSE), [400]),
    "chunked first": (request(BODY, "Transfer-Encoding: chunked, gzip", CLOSE), [400]),
    "chunked in 1.0": (request(BODY, CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0"), [400]),
    # Chunks.
    "chunks": (in_chunks(IN_CHUNKS), [202]),
    "one of 2^72": (in_chunks(b"f" * 18 + b"\r\nabc"), [401]),
    "one below zero": (in_chunks(b"-5\r\nabc"), [401]),
    "one of zz": (in_chunks(b"zz\r\nabc"), [401]),
    "without returns": (in_chunks(b"5\nabcde\n0\n\n"), [401]),
    "a trailer": (in_chunks(IN_CHUNKS[:-2], b"X-Inbox-Signature: t=1,v1=aa\r\nContent-Length: 5\r\n\r\n"), [202]),
    "an endless extension": (in_chunks(b"5;", b"a" * 200_000), [401]),
    "a second request in a trailer": (in_chunks(IN_CHUNKS[:-2], b"X: y\r\n\r\n", sized(BODY)), [202]),
    # One connection, several requests, in order.
    "in a row": (
        sized(BODY)
        + sized(BODY, path="/nope")
        + sized(b"{}", sign=False)
        + sized(BODY, method="PUT")
        + sized(BODY, CLOSE),
        [202, 404, 401, 405, 202],
    ),
    "good, then garbage": (sized(BODY) + b"\0\1\2\3\r\n\r\n" + sized(BODY), [202, 400]),
    # Other protocols.
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 20, []),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + b"\1" * 190, [400]),
    "upgrade to h2c": (sized(BODY, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AA"), [202]),
    "a web socket": (sized(BODY, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"), [202]),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", [404]),
    "connect to the hook": (b"CONNECT /webhooks/inbox HTTP/1.1\r\nHost: a:443\r\n\r\n", [405]),
    "absolute": (sized(BODY, CLOSE, path=f"http://elsewhere{PLAIN}"), [202]),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", [404]),
    "asks first": (sized(BODY, "Expect: 100-continue", CLOSE), [100, 202]),
    "asks what": (sized(BODY, "Expect: the-unexpected", CLOSE), [202]),
    # Lines.
    "0.9": (b"GET /healthz\r\n\r\n", [400]),
    "9.9": (b"GET /healthz HTTP/9.9\r\n\r\n", [400]),
    "1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", [200]),
    "no host": (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", [200]),
    "a method of 5000": (sized(BODY, CLOSE, method="A" * 5000), [405]),
    "no method": (b" / HTTP/1.1\r\n\r\n", [400]),
    "a path of 8000": (sized(BODY, CLOSE, path=f"{PLAIN}/{'a' * 8000}"), [404]),
    "a path of 100,000": (sized(BODY, CLOSE, path=f"{PLAIN}/{'a' * 100_000}"), [431]),
    "no UTF-8": (sized(BODY, CLOSE, path=f"{PLAIN}/%ff"), [404]),
    "half of a pair": (sized(BODY, CLOSE, path=f"{PLAIN}/%ed%a0%80"), [404]),
    "a NUL": (sized(BODY, CLOSE, path=f"{PLAIN}/a\0b"), [400]),
    "300 headers": (sized(BODY, *(f"X-{number}: a" for number in range(300)), CLOSE), [431]),
    "40 KB of headers": (sized(BODY, *(f"X-{number}: {'a' * 4000}" for number in range(10)), CLOSE), [431]),
    "a NUL in a header": (sized(BODY, "X-A: a\0b", CLOSE), [400]),
    "a folded header": (sized(BODY, "X-A: a\r\n b", CLOSE), [400]),
    "a blank before the colon": (sized(BODY, "X-A : a", CLOSE), [400]),
    "no colon": (sized(BODY, "nonsense", CLOSE), [400]),
    "a thousand empty lines": (
        b"\r\n" * 1000 + b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        [200],
    ),
    "a signature of 9000": (request(b"", f"X-Inbox-Signature: t={'1' * 9000}", CLOSE, sign=False), [401]),
    "a signature of bytes": (request(b"", "X-Inbox-Signature: t=1,v1=\xff\xfe", CLOSE, sign=False), [401]),
    "every byte": (bytes(range(256)) * 10, [400]),
}
SILENT = {
    "a head that never ends": b"POST /webhooks/inbox HTTP/1.1\r\nHo",
    "a body that never comes": sized(BODY)[: -len(BODY)],
    "half a body": sized(BODY)[:-10],
    "a chunk of 2^64-1": in_chunks(b"f" * 16 + b"\r\nabc"),
}


@pytest.fixture(scope="module")
def door(server_url: str) -> Iterator[Ingress]:
    with ingress(server_url, "fuzzdoor", LOG_FORMAT="json", GAP_WAIT="0") as found:
        yield found


@pytest.fixture(autouse=True)
def _emptied(client: redis.Redis) -> None:
    for partition in range(4):
        client.delete(PartitionKeys("fuzzdoor", partition).inbox)


def test_every_kind_of_bad_request_has_its_answer_and_stores_nothing(door: Ingress, client: redis.Redis) -> None:
    names = [*CASES, *SILENT]
    requests = [*(data for data, _ in CASES.values()), *SILENT.values()]
    # Those that end the connection without a word are waited for like the others.
    got = answers(door, requests, silent=range(len(CASES), len(requests)))
    found = {name: statuses(answer) for name, answer in zip(names, got, strict=True)}
    assert found == {name: expected for name, (_, expected) in CASES.items()} | {name: [] for name in SILENT}
    stored = inboxes(client, "fuzzdoor")
    assert {fields[b"b"] for fields in stored} == {BODY}
    assert len(stored) == sum(expected.count(202) for _, expected in CASES.values())
    good(door, range(3))
    unharmed(door)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A good request, or several, with bytes of it changed, lost, repeated or put in."""
    data = bytearray(
        draw(st.sampled_from([sized(BODY), in_chunks(IN_CHUNKS), sized(BODY) * 3, sized(BODY, sign=False)]))
    )
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=2))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 60))] * draw(st.integers(1, 30))
            case 3:
                data[at:at] = draw(st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b": ", b"\r\n\r\n", b"\xff" * 9]))
            case 4:
                del data[at:]
    return bytes(data)


@examples(12)
@given(st.lists(requests(), min_size=10, max_size=30))
def test_spoilt_requests_are_answered_or_hung_up_on(door: Ingress, client: redis.Redis, data: list[bytes]) -> None:
    before = Counter(fields[b"b"] for fields in inboxes(client, "fuzzdoor"))
    got = answers(door, data, silent=range(len(data)))
    for answer in got:
        assert all(status in (100, 503) or 200 <= status < 300 or 400 <= status < 500 for status in statuses(answer))
    after = Counter(fields[b"b"] for fields in inboxes(client, "fuzzdoor"))
    assert set(after - before) <= {BODY}, "only what was signed"
    unharmed(door)


@examples(6)
@given(st.lists(hostile.bodies.filter(lambda body: 0 < len(body) < 1_000_000), min_size=10, max_size=40))
def test_any_signed_bytes_are_accepted_as_they_are(door: Ingress, client: redis.Redis, bodies: list[bytes]) -> None:
    """And with another's signature none of them is."""
    before = Counter(fields[b"b"] for fields in inboxes(client, "fuzzdoor"))
    for body in bodies:
        assert door.post(body).status_code == 202
        assert door.post(body, headers=signed(body + b" ")).status_code == 401
        assert door.post(body, headers={}).status_code == 401
    after = Counter(fields[b"b"] for fields in inboxes(client, "fuzzdoor"))
    assert after - before == Counter(bodies)
    unharmed(door)
