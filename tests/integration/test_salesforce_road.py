"""Owners in Salesforce after the whole road: doubled and disordered deliveries, an outage in the middle, a backlog."""

from __future__ import annotations

import random

from tests.handler_kit import loaded
from tests.salesforce_mock import CLIENT, SECRET, Answer, Salesforce, running
from worker.testing import Handoff, change

PROSPECTS, EACH = 30, 6


def test_each_record_ends_with_the_last_owner_in_few_requests(handoff: Handoff) -> None:
    draw = random.Random(7)
    owners: dict[str, str] = {}
    deliveries = []
    with running(Salesforce()) as org:
        users = {name: org.user(number, f"{name}@example.com") for number, name in enumerate(("ada", "ben", "cy"))}
        for number in range(PROSPECTS * EACH):
            prospect, member = f"p{number % PROSPECTS}", draw.choice(sorted(users))
            owners[prospect] = users[member]
            deliveries.append(change(member, prospect=prospect, seq=number + 1))
        for prospect in list(owners)[::2]:
            org.record(prospect)
        org.troubles += [lambda asked: Answer(503, None) if asked.method == "PATCH" else None] * 2
        org.refusals["p1"] = [
            {"success": False, "errors": [{"statusCode": "UNABLE_TO_LOCK_ROW", "message": "busy", "fields": []}]}
        ]
        with loaded(
            "salesforce",
            HANDOFF_SALESFORCE_URL=org.url,
            HANDOFF_SALESFORCE_CLIENT_ID=CLIENT,
            HANDOFF_SALESFORCE_CLIENT_SECRET=SECRET,
            HANDOFF_MEMBERS=",".join(f"{name}={name}@example.com" for name in users),
        ) as module:
            handoff.use(module)
            later = deliveries[:]
            draw.shuffle(later)
            handoff.deliver(*deliveries, *later)
            handoff.run()
        assert org.owners() == owners
        assert len(org.records) == PROSPECTS
        assert handoff.dead == []
        assert len(org.saves()) < 20
        assert org.wrong == []
