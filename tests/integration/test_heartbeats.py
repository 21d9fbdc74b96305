"""Workers' heartbeats on a real server, and what is told from them: by the probe, by the status, by an ingress."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from ingress.workers import State, state_of
from tests.beats import beat
from tests.cli_kit import Installation
from tests.store_kit import Partition
from worker.core.liveness import Condition
from worker.ops.worker_probe import HERE, judged, meant
from worker.store import heartbeats, keys
from worker.store.heartbeats import SILENT_MS, Heartbeats, Worker

HERE_HOST = socket.gethostname()


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody beats again in these tests, and a busy machine may take its time over a command."""
    monkeypatch.setattr(heartbeats, "SILENT_MS", 600_000)


def store(installation: Installation) -> Heartbeats:
    from worker.store.scripts import Scripts

    return Heartbeats(installation.client, Scripts(installation.client), installation.settings.prefix)


def seen(ago: int = 0, **changes: Any) -> Worker:
    return Worker(beat(**changes), 100_000 - ago, 100_000)


def test_a_beat_is_read_as_it_was_written_and_the_newest_counts(partition: Partition) -> None:
    beats = Heartbeats(partition.client, partition.scripts, partition.settings.prefix)
    beats.write(beat(received=1))
    now = beats.write(beat(received=2, waiting={"q": 7}))
    beats.write(beat(id="two", name="celery@a"))
    first, second = beats.read()
    assert (first.beat.name, second.beat) == ("celery@a", beat(received=2, waiting={"q": 7}))
    assert second.at == now
    beats.leave("one")
    assert [worker.beat.id for worker in beats.read()] == ["two"]


def test_workers_that_do_not_beat_are_forgotten_and_there_are_never_too_many(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = Heartbeats(partition.client, partition.scripts, partition.settings.prefix)
    beats.write(beat(id="old"))
    partition.client.zadd(keys.last_beats(partition.settings.prefix), {"old": 1})
    beats.write(beat(id="-one"))  # the first by name too, for some beats are of one millisecond
    assert [worker.beat.id for worker in beats.read()] == ["-one"]
    monkeypatch.setattr(heartbeats, "MOST", 3)
    for number in range(6):
        beats.write(beat(id=str(number)))
    assert {worker.beat.id for worker in beats.read()} == {"3", "4", "5"}
    assert partition.client.hlen(keys.beats(partition.settings.prefix)) == 3
    assert 0 < partition.client.pttl(keys.beats(partition.settings.prefix)) <= heartbeats.LIFE_MS


def test_a_beat_of_another_version_is_passed_over(partition: Partition) -> None:
    beats = Heartbeats(partition.client, partition.scripts, partition.settings.prefix)
    beats.write(beat())
    partition.client.hset(keys.beats(partition.settings.prefix), "one", '{"id": "one"}')
    assert beats.read() == []


@pytest.mark.parametrize(
    ("worker", "state", "for_ingress"),
    [
        (seen(), "working", State.LIVE),
        (seen(condition=Condition.UNHEARD), "unheard", State.LIVE),
        (seen(condition=Condition.DEAF), "deaf", State.DEAF),
        (seen(condition=Condition.STUCK), "stuck", State.DEAF),
        (seen(condition=Condition.UNSWEPT), "unswept", State.DEAF),
        (seen(SILENT_MS), "working", State.LIVE),
        (seen(SILENT_MS + 1), "silent", State.SILENT),
        (seen(SILENT_MS + 1, condition=Condition.DEAF), "silent", State.SILENT),
    ],
)
def test_what_a_worker_is(worker: Worker, state: str, for_ingress: State) -> None:
    assert (worker.state, state_of(worker)) == (state, for_ingress)
    assert (judged(worker).level == "ok") == (for_ingress is State.LIVE)


def test_the_probe_means_the_workers_of_this_host_or_those_that_are_named() -> None:
    everybody = [seen(id="a", host="web1", pid=1), seen(id="b", host="web2", pid=2, name="celery@web2")]

    def ids(which: str) -> list[str]:
        return [worker.beat.id for worker in meant(everybody, which, "web1")]

    assert ids(HERE) == ["a"]
    assert ids("web2") == ids("celery@web2") == ids("2") == ["b"]
    assert ids("web3") == []


def test_a_process_that_is_gone_or_was_started_again_is_not_held_against_its_successor() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    killed = seen(SILENT_MS + 1, id="killed", host="here", pid=gone.pid)
    before = seen(SILENT_MS + 1, id="before", host="here", pid=os.getpid(), started=1)
    after = seen(id="after", host="here", pid=os.getpid(), started=2)
    assert meant([killed, after, before], HERE, "here") == [after]
    hanging = seen(SILENT_MS + 1, id="hanging", host="here", pid=os.getpid())
    assert meant([hanging], HERE, "here") == [hanging]


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(("condition", "code"), [(Condition.WORKING, 0), (Condition.UNHEARD, 0), (Condition.DEAF, 1)])
def test_the_exit_code_of_the_probe(installation: Installation, condition: Condition, code: int) -> None:
    store(installation).write(beat(host=HERE_HOST, pid=os.getpid(), condition=condition, unheard=21.0))
    ran = installation.run("doctor", "--worker")
    assert (ran.code, condition.value in ran.out) == (code, True), ran.err
    assert installation.run("doctor", "--worker", "celery@web1").code == code
    assert installation.run("doctor", "--worker", "celery@web2").code == 1


def test_no_worker_at_all_is_told(installation: Installation) -> None:
    ran = installation.run("doctor", "--worker", "--json")
    assert ran.code == 1
    assert ran.json["findings"][0]["what"] == f"no worker on {HERE_HOST} is known"


def test_a_server_that_can_not_be_asked_is_neither(installation: Installation) -> None:
    ran = installation.run("doctor", "--worker", HANDOFF_REDIS_URL="redis://127.0.0.1:1/0")
    assert (ran.code, ran.out) == (2, "")
    assert "HANDOFF_REDIS_URL" in ran.err


@pytest.mark.usefixtures("_patient")
def test_the_status_shows_workers_and_names_those_that_need_a_person(installation: Installation) -> None:
    installation.start("crm")
    store(installation).write(beat())
    store(installation).write(beat(id="two", name="celery@web2", pid=18, condition=Condition.DEAF, unheard=21.0))
    status = installation.run("status", "--json").json
    assert [(worker["name"], worker["state"]) for worker in status["workers"]] == [
        ("celery@web1", "working"),
        ("celery@web2", "deaf"),
    ]
    assert status["problems"] == [
        "worker celery@web2 (process 18) is deaf for 21s: it takes nothing of what waits for it, and leaves"
    ]
    shown = installation.run("status").out
    assert "celery@web1" in shown
    assert "deaf" in shown
