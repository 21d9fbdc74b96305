"""The webhook handler through the runner: order and books, whatever the receiver answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from tests.handler_kit import loaded
from tests.receiver import OK, Receiver, answer
from tests.runtime_kit import process_of
from tests.store_kit import Partition, change, partition_on, to
from worker.api import registered
from worker.runtime.runner import Runner


@pytest.fixture
def partition(server_url: str, prefix: str) -> Iterator[Partition]:
    with partition_on(server_url, prefix) as found, structlog.testing.capture_logs():
        yield found


def test_a_teams_changes_come_in_order_each_after_the_last_was_accepted(partition: Partition) -> None:
    script = [OK, answer(500), answer(410), OK, answer(400), OK]
    with (
        Receiver(script=list(script)) as far_side,
        loaded(
            "webhook",
            HANDOFF_WEBHOOK_OUT_URL=far_side.url(),
            HANDOFF_WEBHOOK_OUT_SECRET="whsec_" + "A" * 32,
            HANDOFF_WEBHOOK_OUT_ALLOW_HTTP="1",
            HANDOFF_WEBHOOK_OUT_ALLOW_PRIVATE="1",
        ),
    ):
        partition.sequence(*(change("a", seq) for seq in range(1, 5)), route=to("webhook"))
        process, _ = process_of(partition, spec := registered()["webhook"])
        for _ in script:
            Runner(process, spec, partition.keys.partition).run()
            partition.expire_claims("webhook")
        books = partition.balanced("webhook").handlers["webhook"]
    posted = [json.loads(request.body)["data"]["seq"] for request in far_side.requests]
    assert posted == [1, 2, 2, 2, 3, 4]
    assert (books.done, books.dead, books.waiting) == (3, 1, 0)
