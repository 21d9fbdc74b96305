"""Crowds at the real ingress's door: thousands of connections, endless heads, half bodies, bad requests without end.

While all of that goes on a good client's deliveries are accepted; memory and descriptors stay within bounds that follow
from the code, and go back to what they were.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest
import redis

from ingress.bodies import PARTS_BYTES, WHOLE
from ingress.connections import MOST
from ingress.serve import HEAD
from tests.fuzz.door_kit import connected, descriptors, good, memory, request, room_for, sent, statuses, unharmed
from tests.ingress_kit import Ingress, inboxes, ingress
from tests.processes import until

pytestmark = pytest.mark.server

MIB = 1024 * 1024
CROWD = int(os.environ.get("FUZZ_CONNECTIONS", "10000"))
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "10000"))
SLACK = 48  # MiB: the allocator's, the threads' and the client's own


@pytest.fixture
def door(server_url: str, prefix: str) -> Iterator[Ingress]:
    with ingress(server_url, prefix, LOG_FORMAT="json") as found:
        good(found, range(-3, 0))  # what is made at the first request is there
        yield found


def stored(client: redis.Redis, prefix: str) -> list[bytes]:
    return [fields[b"b"] for fields in inboxes(client, prefix)]


def test_ten_thousand_connections_do_not_keep_the_provider_out(door: Ingress, client: redis.Redis, prefix: str) -> None:
    """Half of them say nothing, half send a head a byte at a time; more come than are served at a time."""
    count = room_for(CROWD)
    memory_before, files_before = memory(door), descriptors(door)
    with connected(door, count) as crowd:
        slow = crowd[::2]
        sent(slow, b"POST /webhooks/inbox HTTP/1.1\r\nHo")
        if count > MOST:
            until(lambda: descriptors(door) > MOST / 2, "they crowd", deadline=60)
        bodies = good(door, range(10))
        for number in range(10, 20):
            sent(slow, b"x")
            bodies += good(door, [number])
        most_memory, most_files = memory(door), descriptors(door)
        cut = door.metric("handoff_ingress_connections_cut_total")
    assert most_files <= MOST + 100
    # A connection costs a few KB of buffers and state, whatever it does not send.
    assert most_memory - memory_before < MOST * 16 / 1024 + SLACK
    assert cut > 0 or count < MOST
    until(lambda: descriptors(door) <= files_before + 10, "their descriptors are free again", deadline=60)
    assert set(bodies) < set(stored(client, prefix))
    assert len(stored(client, prefix)) == 23
    unharmed(door)
    print(f"{count} connections: {cut:.0f} cut, {most_files} open, {memory_before:.0f} -> {most_memory:.0f} MiB")


def test_endless_heads_take_no_memory_to_speak_of(door: Ingress) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 4000) for number in range(90))
    count = room_for(1000)
    before = memory(door)
    with connected(door, count) as crowd:
        sent(crowd, b"POST /webhooks/inbox HTTP/1.1\r\nHost: h\r\n" + lines)
        good(door, range(5))
        grown = memory(door) - before
    assert grown < count * HEAD / MIB + SLACK
    unharmed(door)
    print(f"{count} heads of 360 KB: {grown:.0f} MiB more")


@pytest.mark.parametrize("size", [WHOLE, 900_000])
def test_half_bodies_take_no_more_memory_than_there_is_for_them(door: Ingress, size: int) -> None:
    """Of large ones so many bytes together, and not for each; of small ones no more than a connection may have."""
    count = room_for(400)
    before = memory(door)
    with connected(door, count) as crowd:
        sent(crowd, request(b"", f"Content-Length: {size}", sign=False))
        # As much as goes in until nobody takes any more: nobody sends the last byte.
        left = dict.fromkeys(crowd, size - 1)
        end = time.monotonic() + 60
        while left and time.monotonic() < end:
            taken = 0
            for one, more in list(left.items()):
                went = sent([one], b"x" * min(more, 65536))
                left[one] -= went
                taken += went
                if not left[one]:
                    del left[one]
            if not taken:
                break
        good(door, range(5))
        grown = memory(door) - before
    assert grown < (count * WHOLE if size <= WHOLE else 2 * PARTS_BYTES) / MIB + SLACK
    unharmed(door)
    print(f"{count} halves of {size} bytes: {grown:.0f} MiB more")


def test_bad_requests_without_end_are_answered_and_hardly_logged(
    door: Ingress, client: redis.Redis, prefix: str
) -> None:
    bad = request(b"", "X-Inbox-Signature: t=1,v1=zz", "Content-Length: 0", sign=False)
    before = memory(door)
    per_piece, refused = 100, 0
    with connected(door, 4) as senders:
        for one in senders:
            one.setblocking(True)
            one.settimeout(60)
        for piece in range(REQUESTS // per_piece):
            one = senders[piece % len(senders)]
            one.sendall(bad * per_piece)
            answer = b""
            while len(statuses(answer)) < per_piece or not answer.endswith(b"}}"):
                part = one.recv(65536)
                assert part, "it hung up"
                answer += part
            assert set(statuses(answer)) == {401}
            refused += per_piece
            if piece % 20 == 0:
                good(door, [piece])
    assert door.metric('handoff_ingress_deliveries_total{outcome="malformed"}') == refused
    assert memory(door) - before < SLACK
    lines = [json.loads(line) for line in door.process.output.splitlines() if line.startswith("{")]
    assert sum(line["event"] == "delivery_refused" for line in lines) < 100 + REQUESTS / 1000
    assert len(stored(client, prefix)) == 3 + len(range(0, REQUESTS // per_piece, 20))
    assert door.process.running
    print(f"{refused} bad requests: {len(lines)} lines of log, {memory(door) - before:.0f} MiB more")


def test_a_small_limit_of_open_files_is_kept_to(server_url: str, prefix: str) -> None:
    """Beyond it nobody could be accepted, and neither the state server nor the broker be spoken to."""
    few = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    with ingress(server_url, prefix, before=few) as door, connected(door, 600):
        until(lambda: descriptors(door) > 150, "they crowd")
        good(door, range(5))
        assert descriptors(door) < 256
        unharmed(door)
