"""What waits and what is remembered takes no more of the server than is promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.sections.memory import USUAL_NODE_BYTES, kept, waiting
from tests.bench.workload import Workload
from tests.integration.test_deploy_server import directives
from worker.ops import embedded

WORK = Workload.w1(1, 3000)
MOST_WAITING = 1.3  # of a body
MOST_KEPT = {"remembered id": 90, "idle team": 400}  # bytes


def test_embedded_server_keeps_bodies_as_deployed_ones_do(tmp_path: Path) -> None:
    words = embedded.command(tmp_path, 1)
    assert words[words.index("--stream-node-max-bytes") + 1] == directives()["stream-node-max-bytes"]


@pytest.mark.parametrize("handlers", [1, 3])
def test_waiting_event_takes_little_more_than_its_body(handlers: int) -> None:
    """With one delivery in five a duplicate, whose body must not stay for as long as its neighbour waits."""
    assert waiting(WORK, handlers) <= MOST_WAITING * WORK.body_size


def test_nodes_of_the_usual_size_would_keep_duplicates() -> None:
    """The reason of the directive: where a server of its own mind comes to no more, it can go."""
    assert waiting(WORK, 3, node_bytes=USUAL_NODE_BYTES) > MOST_WAITING * WORK.body_size


def test_what_is_remembered_is_small() -> None:
    found = dict(kept(WORK))
    assert all(found[kind] <= most for kind, most in MOST_KEPT.items()), found
