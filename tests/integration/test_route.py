"""Routes to tasks of another Celery application, whose broker may be away, come back, or be of another kind."""

from __future__ import annotations

import base64
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests import processes
from tests.ingress_kit import FrailServer, frail_server
from tests.processes import until
from tests.runtime_kit import AT_ONCE, process_of, spec_of
from tests.store_kit import Partition, change, partition_on
from worker.core.handlers import Forward, HandlerSpec
from worker.runtime import forward
from worker.runtime.forward import Forwarder
from worker.runtime.runner import Runner

TASK = "crm.tasks.push_owner"


@pytest.fixture
def lanes(server_url: str, prefix: str) -> Iterator[Partition]:
    with partition_on(server_url, prefix) as found, structlog.testing.capture_logs():
        yield found


@pytest.fixture
def far(tmp_path: Path) -> Iterator[FrailServer]:
    with frail_server(tmp_path) as found:
        yield found


def route_to(lanes: Partition, broker: str) -> HandlerSpec:
    """As ``route(to=..., queue="crm", broker=...)`` makes it."""
    return spec_of(Forwarder(lanes.settings, Forward(TASK, "crm", broker)), backoff=AT_ONCE, breaker=None, attempts=4)


def dispatch(lanes: Partition, spec: HandlerSpec) -> None:
    process, _ = process_of(lanes, spec)
    lanes.expire_claims()
    Runner(process, spec, lanes.keys.partition).run()


def queued(far: FrailServer) -> list[tuple[str, int]]:
    """Task ids and seqs of what waits in the far queue, first in first."""
    with far.client() as client:
        messages = [json.loads(text) for text in reversed(client.lrange("crm", 0, -1))]
    bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
    return [(m["headers"]["id"], body[0][0]["seq"]) for m, body in zip(messages, bodies, strict=True)]


def key(team: str, seq: int) -> str:
    return f"{team}:{team}-{seq}:crm"


def test_another_applications_worker_gets_every_change_in_order(lanes: Partition, far: FrailServer) -> None:
    environment = {"FAR_BROKER": far.url, "SEEN": far.url, "PYTHONPATH": str(Path(__file__).parents[2])}
    args = ["-A", "tests.integration.far_app", "worker", "-P", "solo", "-Q", "crm", "--loglevel=warning"]
    lanes.sequence(*(change(team, seq, assignee=f"m{seq}") for seq in range(1, 21) for team in "ab"))
    spec = route_to(lanes, far.url)

    def done() -> int:
        dispatch(lanes, spec)  # on a slow machine one turn may end before its lanes do
        return lanes.balanced("crm").handlers["crm"].done

    until(lambda: done() == 40, "all are sent")
    with processes.running(processes.python("celery", *args), environment), far.client() as client:
        until(lambda: client.llen("seen") == 40, "the far side has done them all", 60)
        seen = [json.loads(line) for line in client.lrange("seen", 0, -1)]
    for team in "ab":
        expected = [[key(team, seq), team, seq, f"m{seq}"] for seq in range(1, 21)]
        assert [call for call in seen if call[1] == team] == expected


def test_a_broker_that_is_away_loses_nothing_and_changes_no_order(lanes: Partition, far: FrailServer) -> None:
    spec = route_to(lanes, far.url)
    far.kill()
    lanes.sequence(*(change("a", seq) for seq in range(1, 6)))
    dispatch(lanes, spec)
    dispatch(lanes, spec)
    books = lanes.balanced("crm").handlers["crm"]
    assert (books.done, books.retried, books.dead) == (0, 2, 0)
    far.start()
    dispatch(lanes, spec)
    assert queued(far) == [(key("a", seq), seq) for seq in range(1, 6)]


def test_a_broker_that_was_restarted_costs_no_attempt(lanes: Partition, far: FrailServer) -> None:
    """The connection that was kept is dead; a fresh one is not."""
    spec = route_to(lanes, far.url)
    lanes.sequence(change("a", 1))
    dispatch(lanes, spec)
    assert queued(far) == [(key("a", 1), 1)]
    far.kill()
    far.start()
    lanes.sequence(change("a", 2))
    dispatch(lanes, spec)
    assert queued(far) == [(key("a", 2), 2)]
    assert lanes.balanced("crm").handlers["crm"].retried == 0


def test_a_broker_that_says_nothing_does_not_keep_the_call_for_ever(
    lanes: Partition, far: FrailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(forward.REDIS, "socket_timeout", 0.2)
    spec = route_to(lanes, far.url)
    lanes.sequence(change("a", 1), change("a", 2))
    far.pause()
    try:
        dispatch(lanes, spec)
    finally:
        far.resume()
    assert lanes.seqs_in("crm", "a") == [1, 2]
    dispatch(lanes, spec)
    assert dict.fromkeys(queued(far)) == {(key("a", 1), 1): None, (key("a", 2), 2): None}, "doubled at most, by one id"


def connections(far: FrailServer) -> int:
    with far.client() as client:
        return len(client.client_list()) - 1  # without this one


def test_connections_are_kept_and_not_leaked(lanes: Partition, far: FrailServer) -> None:
    """However many calls are made, and however often the broker closes them."""
    spec = route_to(lanes, far.url)
    counts = []
    for seq in range(1, 21):
        lanes.sequence(change("a", seq))
        dispatch(lanes, spec)
        counts.append(connections(far))
        if seq % 5 == 0:
            with far.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
    assert max(counts) <= 2, "kombu makes one for itself and one for the channel"
    assert len(queued(far)) == 20


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files")
def test_a_broker_that_is_away_costs_no_open_files(lanes: Partition, far: FrailServer) -> None:
    spec = route_to(lanes, far.url)
    lanes.sequence(change("a", 1))
    far.kill()
    with structlog.testing.capture_logs():
        dispatch(lanes, spec)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(2):
            dispatch(lanes, spec)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_broker_of_another_kind(lanes: Partition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data_in", "data_out", "control"):
        Path(folder).mkdir()
    lanes.sequence(*(change("a", seq) for seq in (1, 2, 3)))
    dispatch(lanes, route_to(lanes, "filesystem://"))
    assert lanes.balanced("crm").handlers["crm"].done == 3
    written = [json.loads(path.read_text()) for path in sorted(Path("data_out").iterdir())]
    assert {message["headers"]["id"] for message in written} == {key("a", seq) for seq in (1, 2, 3)}
    assert {message["properties"]["delivery_info"]["routing_key"] for message in written} == {"crm"}
