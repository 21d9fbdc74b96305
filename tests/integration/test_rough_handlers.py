"""Handlers that kill or hang real worker processes: their jobs come to an end, and nobody else's are touched."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingress.signature import HEADER, sign
from tests.processes import until
from tests.road import Road, running_road

HANDLERS = "tests.integration.rough_handlers"
CALM = [f"calm{number}" for number in range(5)]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    with running_road(tmp_path_factory.mktemp("road"), handlers=HANDLERS, partitions="2") as found:
        yield found


def post(road: Road, handler: str, team: str, *seqs: int) -> None:
    """Events that only ``handler`` takes."""
    for seq in seqs:
        document = {"id": f"{team}-{seq}", "seq": seq, "type": f"rough.{handler}", "teamId": team}
        body = json.dumps(document).encode()
        headers = {HEADER: sign(body, road.secret, road.now())}
        assert road.http.post("/webhooks/inbox", content=body, headers=headers).status_code == 202


def calls(road: Road, handler: str, team: str) -> list[str]:
    return [str(line) for line in road.client.lrange(f"{handler}:{team}", 0, -1)]


def dead(road: Road, *handlers: str) -> dict[tuple[str, str], tuple[int, str, int]]:
    """(handler, team) -> seq, error and attempts of its dead letter."""
    letters = json.loads(road.handoff("dead", "list", "--json").stdout)["dead"]
    letters = [each for each in letters if each["handler"] in handlers]
    found = {(each["handler"], each["team"]): (each["seq"], each["error"], each["attempts"]) for each in letters}
    assert len(found) == len(letters)
    return found


THROUGH = [f"{what} {seq} 1" for seq in (1, 2, 3) for what in ("begin", "end")]


def test_a_job_that_kills_its_process_ends_after_its_attempts_and_alone(road: Road) -> None:
    """By os._exit, by a real segmentation fault, by SIGKILL as the kernel sends it when memory is out; and a
    MemoryError, which is an error like any other."""
    worker = road.workers[0]
    for team in ("exit", "segfault", "oom", "memory", *CALM):
        post(road, "deadly", team, 1, 2, 3)
    road.wait_until_done()
    assert dead(road, "deadly") == {
        ("deadly", "exit"): (2, "WorkerLost", 2),
        ("deadly", "segfault"): (2, "WorkerLost", 2),
        ("deadly", "oom"): (2, "WorkerLost", 2),
        ("deadly", "memory"): (2, "MemoryError", 2),
    }
    for team in ("exit", "segfault", "oom", "memory"):
        made = calls(road, "deadly", team)
        assert made[-2:] == ["begin 3 1", "end 3 1"], "the rest of the lane goes on, and uncharged"
        assert [line for line in made if line.startswith("begin 2")][-1] == "begin 2 2"
        assert not [line for line in made if line.startswith("end 2")]
        assert made.index("end 1 1") < made.index("begin 2 1") < made.index("begin 3 1")
    for team in CALM:  # what was claimed together with a deadly job may come twice, but never as a second attempt
        assert list(dict.fromkeys(calls(road, "deadly", team))) == THROUGH
    assert worker.running
    assert road.handoff("audit").returncode == 0


def test_a_call_that_never_ends_stops_nothing_but_its_lane(road: Road) -> None:
    """Of every kind: one that can be interrupted, one that catches it, one that lets no other thread run; a coroutine
    that blocks its event loop; a thread."""
    worker = road.workers[0]
    hopeless = [("hanging", team) for team in ("sleep", "swallow", "greedy")] + [
        ("blocking", "async"),
        ("stuck", "thread"),
    ]
    for handler, team in hopeless:
        post(road, handler, team, 1, 2, 3)
    calm = [(handler, f"{handler}{team}") for handler in ("hanging", "blocking", "stuck") for team in CALM]
    for handler, team in calm:
        post(road, handler, team, 1, 2, 3)
    road.wait_until_done()
    for handler, team in hopeless:
        made = calls(road, handler, team)
        assert made[-2:] == ["begin 3 1", "end 3 1"]
        assert not [line for line in made if line.startswith("end 2")]
    for handler, team in calm:
        assert list(dict.fromkeys(calls(road, handler, team))) == THROUGH
    letters = dead(road, "hanging", "blocking", "stuck")
    assert {key: (seq, attempts) for key, (seq, _, attempts) in letters.items()} == dict.fromkeys(hopeless, (2, 1))
    assert letters["hanging", "sleep"][1] == "CallTimeout"
    assert {error for _, error, _ in letters.values()} == {"CallTimeout", "WorkerLost"}
    overran = [json.loads(line) for line in worker.output.splitlines() if "handler_overrun" in line]
    assert {line["handler"] for line in overran} >= {"blocking", "stuck"}
    assert worker.running
    assert road.handoff("audit").returncode == 0


def test_a_long_call_of_a_coroutine_does_not_keep_its_process_from_other_work(road: Road) -> None:
    """Four times as many lanes with calls that do not end as there are processes, and other handlers go on."""
    teams = [f"long{number}" for number in range(8)]
    for team in teams:
        post(road, "lengthy", team, 1, 2, 3)
    until(lambda: all("begin 2 1" in calls(road, "lengthy", team) for team in teams), "all of them have begun")
    for team in CALM:
        post(road, "deadly", f"d{team}", 1, 2, 3)
        post(road, "lengthy", f"l{team}", 1, 2, 3)
    until(lambda: all(calls(road, "deadly", f"d{team}") == THROUGH for team in CALM), "another handler goes on")
    until(lambda: all(calls(road, "lengthy", f"l{team}") == THROUGH for team in CALM), "other lanes go on")
    assert all(calls(road, "lengthy", team) == THROUGH[:3] for team in teams), "and the long calls have not ended"
    road.client.set("go on", "1")
    road.wait_until_done()
    assert all(calls(road, "lengthy", team) == THROUGH for team in teams)
    assert dead(road, "lengthy") == {}


def test_a_worker_that_is_told_to_end_waits_for_calls_that_go_on_without_a_task(road: Road) -> None:
    road.client.delete("go on")
    post(road, "lengthy", "longest", 1, 2)
    until(lambda: "begin 2 1" in calls(road, "lengthy", "longest"), "it has begun")
    for team in ("x", "y"):
        post(road, "pair", team, 1)
    until(lambda: all(calls(road, "pair", team) for team in ("x", "y")), "both processes take other work")
    (worker,) = road.workers
    worker.signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(3)
    road.client.set("go on", "1")
    assert worker.wait(60) == 0
    assert calls(road, "lengthy", "longest") == THROUGH[:4]
    assert not list(road.client.scan_iter("handoff:*:claims:lengthy")), "settled, and not left to a lease"


@pytest.fixture
def threaded(tmp_path: Path) -> Iterator[Road]:
    with running_road(tmp_path, handlers=HANDLERS, partitions="2", workers=0) as found:
        found.start_worker("-P", "threads")
        yield found


def test_where_nothing_can_be_interrupted_a_call_is_left_behind_and_its_late_end_refused(threaded: Road) -> None:
    """In Celery's thread pool: the place in the pool is free again, and the process can end."""
    road = threaded
    hopeless = [("hanging", "sleep"), ("hanging", "swallow"), ("stuck", "thread"), ("stuck", "other")]
    for handler, team in hopeless:
        post(road, handler, team, 1, 2, 3)
    post(road, "late", "tardy", 1)
    for team in CALM:
        post(road, "hanging", f"h{team}", 1, 2, 3)
    road.wait_until_done()
    for team in CALM:
        assert list(dict.fromkeys(calls(road, "hanging", f"h{team}"))) == THROUGH
    made = calls(road, "late", "tardy")  # the first loss is not charged: it might have been another lane's doing
    assert made == ["begin 1 1"] * (len(made) - 2) + ["begin 1 2", "end 1 2"]
    road.client.set("be late", "1")
    until(lambda: "end 1 1" in calls(road, "late", "tardy"), "the first attempt ends after all")
    books = [book.handlers["late"] for book in road.books()]
    assert (sum(book.done for book in books), sum(book.dead for book in books)) == (1, 0)
    assert set(dead(road, "hanging", "stuck")) == {("hanging", "sleep"), ("hanging", "swallow"), ("stuck", "thread")}
    (worker,) = road.workers
    reported = [json.loads(line) for line in worker.output.splitlines() if "handler_overrun" in line]
    places = {place for line in reported for place in line["where"]}
    assert places
    assert all(place.startswith("rough_handlers.py:") for place in places)
    assert worker.stop(60) == 0
