"""For each safeguard a scenario, acted out and not left to luck, that goes wrong without it; and goes well with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.chaos.check_time import Bounds
from tests.chaos.history import Message
from tests.chaos.stage import SMALL, Scenario, Stage

TWO: Final = replace(SMALL, workers=2)
HANG: Final = 2.5  # seconds


def owner_stopped_past_its_lease(stage: Stage) -> None:
    """It stops in the middle of a call, another process takes the lane over, and it goes on."""
    _told(stage, stage.event("a", 1, "p", "m1"))
    first = stage.event("a", 2, "p", "m2", hang=HANG)
    # All are there before any is claimed, so that the owner has its next jobs in hand when it comes to itself.
    with stage.stopped(*(pid for worker in stage.cluster.workers for pid in worker.pids)):
        stage.send(first, stage.event("a", 3, "p", "m3"), stage.event("a", 4, "p", "m4"))
    owner = stage.called("prospects", first.key)
    with stage.stopped(owner.pid):
        assert stage.called("prospects", first.key, times=2).pid != owner.pid


def _told(stage: Stage, event: Message) -> None:
    """An event that every handler was called for."""
    stage.send(event)
    for terms in stage.handlers:
        stage.called(terms.name, event.key, done=True)


def slow_call_beside_an_idle_worker(stage: Stage) -> None:
    slow = stage.event("a", 1, "p", "m1", hang=HANG)
    stage.send(slow)
    stage.called("prospects", slow.key, done=True)


def lost_bell(stage: Stage) -> None:
    """The bell for a delivery is lost, and no other event has come or comes."""
    stage.store(stage.event("a", 1, "p", "m1"), ring=False)


def delivered_twice(stage: Stage) -> None:
    event = stage.event("a", 1, "p", "m1")
    stage.send(event)
    stage.called("prospects", event.key, done=True)
    stage.send(event)


def delivered_in_another_order(stage: Stage) -> None:
    first = stage.event("a", 1, "p", "m1")
    stage.send(first)
    stage.called("every", first.key, done=True)
    stage.send(stage.event("a", 4, "p4", "m1"), stage.event("a", 3, "p3", "m1"), stage.event("a", 2, "p2", "m1"))


def overtaken(stage: Stage) -> None:
    """A change comes when a newer one of its prospect has been told."""
    first, second, third = (stage.event("a", seq, "p", f"m{seq}") for seq in (1, 2, 3))
    stage.send(first)
    stage.called("prospects", first.key, done=True)
    stage.send(third)
    stage.called("prospects", third.key, done=True)
    stage.send(second)


def killed_in_a_call(stage: Stage) -> None:
    event = stage.event("a", 1, "p", "m1", hang=HANG)
    stage.send(event)
    stage.killed(stage.called("prospects", event.key).pid)


def server_killed_under_the_ingress(stage: Stage) -> None:
    """A delivery comes at the moment in which the server has died."""
    first = stage.event("a", 1, "p", "m1")
    stage.send(first)
    stage.called("prospects", first.key, done=True)
    second = stage.event("a", 2, "p", "m2")
    with stage.without_server():
        accepted = stage.offer(second)
    if not accepted:
        stage.send(second)


def stuck_beside_others(stage: Stage) -> None:
    stuck = stage.event("a", 1, "p", "m1", hang=6.0)
    stage.send(stuck)
    stage.called("prospects", stuck.key)
    stage.send(stage.event("b", 1, "q", "m1"), stage.event("a", 2, "q", "m1"))


SCENARIOS: Final[dict[str, Scenario]] = {
    "fencing": Scenario(owner_stopped_past_its_lease, TWO),
    "lease": Scenario(slow_call_beside_an_idle_worker, TWO),
    "sweeper": Scenario(lost_bell, bounds=Bounds(progress=4.0), finish=6.0),
    "dedup": Scenario(delivered_twice),
    "order": Scenario(delivered_in_another_order),
    "staleness": Scenario(overtaken),
    "ack-first": Scenario(killed_in_a_call),
    "answer-first": Scenario(server_killed_under_the_ingress, replace(SMALL, ingresses=1)),
    "one-lane": Scenario(stuck_beside_others, bounds=Bounds(isolation=3.0)),
}
"""By the safeguard (sabotage.py)."""
