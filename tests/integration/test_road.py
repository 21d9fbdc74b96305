"""The provider's own events, and what nobody should send, at the front door of the running whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ingress.signature import HEADER, sign
from tests.processes import until
from tests.road import Road, running_road
from worker.ops.samples import sample

HANDLERS = "tests.integration.storm_handlers"
TEAM = "hzcai5t59nn9vsck3rbuepyg"


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    # Some of the events below fail at first, and there are no others: enough for a circuit to open.
    with running_road(tmp_path_factory.mktemp("road"), handlers=HANDLERS, handler_every_breaker="off") as found:
        yield found


def post(road: Road, body: bytes, path: str = "/webhooks/inbox") -> int:
    headers = {HEADER: sign(body, road.secret, road.now())}
    return road.http.post(path, content=body, headers=headers).status_code


def total(road: Road, counter: str) -> int:
    return sum(books.ledger.get(counter, 0) for books in road.books())


def test_the_provider_s_samples_are_one_event_and_two_duplicates(road: Road) -> None:
    """All three samples carry the same id, whatever their seq: by the provider's word they are one event."""
    for name in ("prospect.assigneeChanged", "thread.assigned", "thread.unassigned"):
        assert post(road, json.dumps(sample(name)).encode()) == 202
    road.wait_until_done()
    assert road.client.lrange(f"changes:{TEAM}", 0, -1) == ["210 ck9v2m5nj0xp4wq7ybftrae8 ordered"]
    assert road.client.hgetall(f"owners:{TEAM}") == {"n7kxqm5d9iu2sgdf6jbw4h36": "r3km7xj9wq5p2bvnhfdteoly"}
    assert total(road, "duplicates") == 2


def test_a_prospect_s_way_through_three_hands_is_told_as_changes(road: Road) -> None:
    """Assigned, echoed by the deprecated event, handed over, let go: with distinct ids each is told once."""
    owners: list[tuple[str, str, str | None]] = [
        ("prospect.assigneeChanged", "e1", "ada"),
        ("thread.assigned", "e2", "ada"),
        ("prospect.assigneeChanged", "e3", "ben"),
        ("thread.unassigned", "e4", None),
    ]
    for seq, (name, event_id, owner) in enumerate(owners, start=1):
        event: dict[str, Any] = sample(name)
        event.update(id=event_id, seq=seq, teamId="hands")
        subject = event["data"].get("thread") or event["data"]["prospect"]["context"]
        subject["assigneeId"] = owner
        assert post(road, json.dumps(event).encode()) == 202
    road.wait_until_done()
    assert road.client.lrange("changes:hands", 0, -1) == ["1 e1 ordered", "3 e3 ordered", "4 e4 ordered"]
    assert [line.split()[1] for line in road.client.lrange("every:hands", 0, -1)] == ["e1", "e2", "e3", "e4"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b'{"id":"a","seq":1', "not_json"),
        (b"\xff\xfe\x00", "not_utf8"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "not_an_event"),
        (b'{"id":"a","seq":-1,"type":"t","teamId":"x"}', "bad_seq"),
        (b'{"id":"a","seq":1.5,"type":"t","teamId":"x"}', "bad_seq"),
        (b'{"id":"a","seq":"1","type":"t","teamId":"x"}', "bad_seq"),
        (b'{"id":"a","seq":9007199254740992,"type":"t","teamId":"x"}', "bad_seq"),
        (b'{"id":"%s","seq":1,"type":"t","teamId":"x"}' % (b"i" * 10_240), "bad_id"),
        (b'{"id":"a","seq":1,"type":"t"}', "no_team"),
        (b'{"event":"targetContacted","platform":"twitter","version":"1.0","data":{}}', "legacy"),
    ],
)
def test_what_is_signed_and_cannot_be_read_is_kept(road: Road, body: bytes, reason: str) -> None:
    before = total(road, "quarantined")
    assert post(road, body) == 202
    until(lambda: total(road, "quarantined") == before + 1, f"{reason} is quarantined")
    listed = json.loads(road.handoff("quarantine", "list", "--json", "--limit", "1").stdout)
    assert reason in json.dumps(listed)


@pytest.mark.parametrize("team", ["{p00}", "a b", "}{", "'; FLUSHALL", "é", "t" * 1000])
def test_ids_may_hold_anything(road: Road, team: str) -> None:
    body = json.dumps({"id": f"{team} 1"[-900:], "seq": 1, "type": "odd.one", "teamId": team}).encode()
    assert post(road, body) == 202
    until(lambda: road.client.llen(f"every:{team}") == 1, f"an event of {team!r} arrives")


def test_version_two_takes_its_team_from_the_url(road: Road) -> None:
    body = json.dumps(
        {
            "id": "v2-1",
            "seq": 1,
            "type": "contact.assigneeChanged",
            "apiVersion": "2",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "object": {"type": "contact", "id": "c1", "url": "/contacts/c1"},
            "data": {"assigneeId": "m1"},
        }
    ).encode()
    assert post(road, body, "/webhooks/inbox/second%20version") == 202
    until(lambda: road.client.llen("changes:second version") == 1, "the change arrives")
    assert road.client.hgetall("owners:second version") == {"c1": "m1"}


def test_after_all_that_the_books_are_right(road: Road) -> None:
    road.wait_until_done()
    audit = road.handoff("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr
