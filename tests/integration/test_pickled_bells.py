"""Whoever can write to the broker can lose or ring bells, and run nothing: a real worker is sent a message whose
unpickling would make a file."""

from __future__ import annotations

import base64
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from ingress.signature import HEADER, sign
from tests.processes import until
from tests.road import running_road
from tests.store_kit import change
from worker.doorbell import SEQUENCE_QUEUE, SEQUENCE_TASK

pytestmark = pytest.mark.server


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._file),)


def test_a_pickle_in_a_queue_is_refused_and_does_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made by a pickle"
    pickled = pickle.dumps(([Bomb(made)], {}, {}))
    message = {
        "body": base64.b64encode(pickled).decode(),
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
        "headers": {"lang": "py", "task": SEQUENCE_TASK, "id": "1"},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "1",
            "delivery_info": {"exchange": "", "routing_key": SEQUENCE_QUEUE},
        },
    }
    with running_road(tmp_path, handlers="worker.handlers.log") as road:
        (worker,) = road.workers
        road.client.lpush(f"handoff:broker:{SEQUENCE_QUEUE}", json.dumps(message))
        worker.wait_for_output('"event": "message_dropped", "why": "ContentDisallowed"', 60)
        assert not made.exists()
        headers = {HEADER: sign(change("acme", 1), road.secret, road.now())}
        assert road.http.post("/webhooks/inbox", content=change("acme", 1), headers=headers).status_code == 202
        road.wait_until_done()
        until(lambda: "assignee_changed" in worker.output, "the worker goes on")
        assert not made.exists()
    pickle.loads(pickled)  # which would have made it
    assert made.is_dir()
