"""Lanes that a person pauses and lets on, on a real server, beside workers that have them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from tests.store_kit import Partition, change, partition_on, to
from worker.core.dispatch import Terms
from worker.store.blocking import Lane, State, Why, blocked_names, look_at, names, pause, troubled_names, unblock
from worker.store.dead import DeadFilter, select_dead
from worker.store.lanes import Action, Attempt, Settlement
from worker.store.pages import Window

INF = float("inf")

ON_A_CLUSTER = True


def due(partition: Partition, lane: str = "a") -> float | None:
    score: Any = partition.client.zscore(partition.keys.ready("crm"), lane)
    return None if score is None else float(score)


def stop(partition: Partition, *lanes: str) -> list[str]:
    return pause(partition.scripts, partition.keys, "crm", lanes or ["a"], "ada@crm-1")


def free(partition: Partition, why: Why, *lanes: str, give_up: bool = False) -> list[str]:
    return unblock(partition.scripts, partition.keys, "crm", lanes or ["a"], why, give_up=give_up)


def look(partition: Partition, lane: str = "a") -> Lane:
    (found,) = look_at(partition.scripts, partition.keys, "crm", [lane])
    return found


def claim(partition: Partition, jobs: int = 9) -> int:
    """The token of lane a, claimed; 0 if it could not be."""
    claimed = partition.lanes().claim(lanes=9, jobs=jobs, per_lane=jobs)
    return claimed.token if claimed.lanes else 0


def exhaust(partition: Partition, lane: str = "a", attempts: int = 3) -> None:
    """The lane's first job runs out of attempts, and its handler may skip none."""
    token = claim(partition, 1)
    failed = [Attempt(number, 1, "app.Down", "secret text") for number in range(1, attempts + 1)]
    outcome = Settlement(
        token, lane, action=Action.BLOCK, attempts=attempts, failed=failed, error="app.Down", text="secret text"
    )
    partition.lanes().settle([outcome])


def test_a_paused_lane_is_nobody_s_until_it_is_resumed(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("b", 1))
    assert stop(partition) == ["paused"]
    assert stop(partition) == ["already"]
    found = look(partition)
    assert (found.state, found.waiting, found.due, found.blocked and found.blocked.by) == (
        State.PAUSED,
        1,
        None,
        "ada@crm-1",
    )
    assert [lane.lane for lane in partition.lanes().claim(lanes=9, jobs=9, per_lane=9).lanes] == ["b"]
    assert free(partition, Why.EXHAUSTED) == ["not"]
    assert free(partition, Why.PAUSED) == ["freed"]
    assert free(partition, Why.PAUSED) == ["not"]
    assert look(partition).state is State.DUE
    assert claim(partition)
    assert partition.client.hlen(partition.keys.blocked("crm")) == 0


def test_what_comes_to_an_empty_paused_lane_waits(partition: Partition) -> None:
    assert stop(partition) == ["paused"]
    assert due(partition) is None
    assert look(partition).state is State.PAUSED
    partition.sequence(change("a", 1))
    assert claim(partition) == 0
    assert due(partition) == INF
    assert free(partition, Why.PAUSED) == ["freed"]
    assert claim(partition)


def test_resuming_an_empty_lane_leaves_nothing_behind(partition: Partition) -> None:
    stop(partition)
    assert free(partition, Why.PAUSED) == ["freed"]
    assert not {name for name in partition.names() if name.startswith(("ready", "claims", "blocked"))}


def test_a_lane_that_runs_is_paused_when_its_call_has_ended(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2))
    token = claim(partition, 1)
    before = due(partition)
    assert stop(partition) == ["paused"]
    assert due(partition) == before
    assert look(partition).state is State.RUNNING
    assert partition.lanes().settle([Settlement(token, "a", done=1)]) == {"a": True}
    assert (due(partition), look(partition).state) == (INF, State.PAUSED)
    partition.balanced()


def test_a_lane_that_is_paused_before_it_runs_out_of_attempts_stays_paused(partition: Partition) -> None:
    """Or somebody who unblocks it would take the pause away that another wanted."""
    partition.sequence(change("a", 1))
    token = claim(partition, 1)
    stop(partition)
    partition.lanes().settle([Settlement(token, "a", action=Action.BLOCK, attempts=3, error="app.Down")])
    assert (look(partition).state, due(partition)) == (State.PAUSED, INF)
    assert free(partition, Why.EXHAUSTED) == ["not"]
    assert free(partition, Why.PAUSED) == ["freed"]
    exhaust(partition, attempts=4)
    assert look(partition).state is State.EXHAUSTED


def test_resuming_a_lane_that_runs_leaves_it_to_whoever_has_it(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2))
    token = claim(partition, 1)
    stop(partition)
    before = due(partition)
    assert free(partition, Why.PAUSED) == ["freed"]
    assert due(partition) == before
    assert claim(partition) == 0
    assert partition.lanes().settle([Settlement(token, "a", done=1)]) == {"a": True}
    assert claim(partition)


def test_a_job_that_was_never_settled_before_a_pause_counts_as_crashed_after_it(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    claim(partition, 1)
    stop(partition)
    partition.expire_claims()
    assert claim(partition) == 0
    assert due(partition) == INF
    free(partition, Why.PAUSED)
    (lane,) = partition.lanes().claim(lanes=1, jobs=1, per_lane=1).lanes
    assert lane.crashed


def test_an_unblocked_lane_tries_its_first_job_afresh(partition: Partition) -> None:
    partition.sequence(change("a", 1), change("a", 2))
    exhaust(partition)
    found = look(partition)
    assert (found.state, found.attempts, found.error) == (State.EXHAUSTED, 3, "app.Down")
    assert stop(partition) == ["already"]
    assert free(partition, Why.PAUSED) == ["not"]
    assert free(partition, Why.EXHAUSTED) == ["freed"]
    (lane,) = partition.lanes().claim(lanes=1, jobs=1, per_lane=1).lanes
    assert (lane.attempt, lane.failed, lane.crashed) == (1, (), False)
    partition.balanced()


def test_an_unblocked_lane_forgets_the_attempts_that_a_batch_counted_in_the_job_s_text(partition: Partition) -> None:
    partition.sequence(change("a", 1, prospect="p"), change("a", 2, prospect="q"))
    token = partition.lanes().claim(lanes=1, jobs=2, per_lane=2).token
    partition.lanes().settle([Settlement(token, "a", ended=".+", action=Action.RETRY, attempts=1)])
    partition.expire_claims()
    token = partition.lanes().claim(lanes=1, jobs=2, per_lane=2).token
    partition.lanes().settle([Settlement(token, "a", ended="d", action=Action.BLOCK, attempts=1, error="E")])
    free(partition, Why.EXHAUSTED)
    (lane,) = partition.lanes().claim(lanes=1, jobs=1, per_lane=1).lanes
    assert [(job.job.seq, job.job.tried) for job in lane.jobs] == [(2, 0)]
    assert lane.attempt == 1
    assert partition.in_lane("crm", "a")[0].split(b" ")[4][-1:] == b"0", "conflation sees that it was called"


def test_resuming_a_lane_that_backed_off_keeps_its_attempts(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    failed = [Attempt(1, 1, "E", "e")]
    settlement = Settlement(claim(partition, 1), "a", action=Action.RETRY, delay_ms=60_000, attempts=1, failed=failed)
    partition.lanes().settle([settlement])
    found = look(partition)
    assert (found.state, found.attempts, found.error) == (State.BACKING_OFF, 1, "E")
    stop(partition)
    free(partition, Why.PAUSED)
    (lane,) = partition.lanes().claim(lanes=1, jobs=1, per_lane=1).lanes
    assert (lane.attempt, len(lane.failed)) == (2, 1)


def test_giving_up_sends_the_first_job_to_the_dead_letters_and_lets_the_rest_on(
    any_server_url: str, prefix: str
) -> None:
    with partition_on(any_server_url, prefix, archive_events=9) as partition:
        partition.sequence(change("a", 1), change("a", 2), route=to("crm", "mail"))
        exhaust(partition)
        assert free(partition, Why.EXHAUSTED, give_up=True) == ["buried"]
        assert free(partition, Why.EXHAUSTED, give_up=True) == ["not"]
        assert partition.seqs_in("crm", "a") == [2]
        books = partition.balanced()
        assert (books.dead, books.handlers["crm"].dead, books.handlers["crm"].waiting) == (1, 1, 1)
        ((_, fields),) = partition.client.xrange(partition.keys.dead)
        written = dict(zip(fields[::2], fields[1::2], strict=True))
        assert (written[b"error"], written[b"text"], written[b"attempts"]) == (b"app.Down", b"secret text", b"3")
        assert len(written[b"trouble"]) > 20
        (end,) = partition.client.hgetall(partition.keys.ends).values()
        assert end.startswith(b"dead ")
        (lane,) = partition.lanes().claim(lanes=1, jobs=9, per_lane=9).lanes
        assert (lane.attempt, lane.failed) == (1, ())
        partition.lanes().settle([Settlement(1, "a")])


def test_giving_up_the_only_job_leaves_an_empty_lane(partition: Partition) -> None:
    partition.sequence(change("a", 1))
    exhaust(partition)
    assert free(partition, Why.EXHAUSTED, give_up=True) == ["buried"]
    left = {name.split(":")[0] for name in partition.names()}
    assert not left & {"ready", "claims", "trouble", "blocked", "lane"}
    assert len(select_dead(partition.client, [partition.keys], DeadFilter(), Window())) == 1
    partition.balanced()


def by_prospect(*teams: str) -> Any:
    return lambda _type, _change: [Terms("crm", "prospect")]


def test_lanes_are_found_by_team_and_by_what_is_wrong_with_them(partition: Partition) -> None:
    partition.sequence(*(change("a*", seq, prospect=f"p{seq}") for seq in (1, 2, 3)), route=by_prospect())
    partition.sequence(change("ab", 1), change("c", 1), route=by_prospect())
    partition.sequence(change("a*", 4))
    client, keys = partition.client, partition.keys
    assert set(names(client, keys, "crm", "a*")) == {"a*", "a*:p1", "a*:p2", "a*:p3"}
    assert set(names(client, keys, "crm")) == {"a*", "a*:p1", "a*:p2", "a*:p3", "ab:p", "c:p"}
    stop(partition, "a*:p1", "c:p")
    (token,) = {c.token for c in [partition.lanes().claim(lanes=1, jobs=1, per_lane=1)]}
    (running,) = [lane for lane in look_at(partition.scripts, keys, "crm", names(client, keys, "crm")) if lane.claimed]
    failed = [Attempt(1, 1, "app.Down", "")]
    partition.lanes().settle(
        [Settlement(token, running.lane, action=Action.BLOCK, attempts=1, failed=failed, error="app.Down")]
    )
    assert set(blocked_names(client, keys, "crm")) == {"a*:p1", "c:p", running.lane}
    assert set(blocked_names(client, keys, "crm", Why.PAUSED)) == {"a*:p1", "c:p"}
    assert set(blocked_names(client, keys, "crm", Why.PAUSED, team="a*")) == {"a*:p1"}
    assert set(blocked_names(client, keys, "crm", error="Down")) == {running.lane}
    assert set(troubled_names(client, keys, "crm")) == {running.lane}


def test_a_lane_whose_turn_it_is_is_due_now(partition: Partition) -> None:
    """Where a team may have many lanes, those that are due have a turn instead of a time (claim.lua)."""
    partition.sequence(change("a", 1))
    partition.client.zadd(partition.keys.ready("crm"), {"a": 17})
    found = look(partition)
    assert (found.state, found.due) == (State.DUE, found.now)


def test_many_lanes_are_named_page_by_page(partition: Partition) -> None:
    partition.sequence(*(change(f"t{number}", 1) for number in range(600)))
    found = list(names(partition.client, partition.keys, "crm"))
    assert (len(found), len(set(found))) == (600, 600)
    assert len(list(look_at(partition.scripts, partition.keys, "crm", found))) == 600
    stop(partition, *found)
    assert len(set(blocked_names(partition.client, partition.keys, "crm"))) == 600


@pytest.mark.parametrize("seed", range(6))
def test_whatever_people_do_while_a_worker_works_every_job_ends_once(
    any_server_url: str, prefix: str, seed: int
) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    with partition_on(any_server_url, prefix, archive_events=random.choice([0, 9])) as partition:
        held: list[tuple[int, str, Sequence[Any]]] = []
        seqs = dict.fromkeys("ab", 0)
        for _ in range(60):
            team = random.choice("ab")
            kind = random.randrange(6)
            if kind == 0:
                seqs[team] += 1
                partition.sequence(change(team, seqs[team]))
            elif kind == 1:
                claimed = partition.lanes().claim(lanes=1, jobs=2, per_lane=2)
                held += [(claimed.token, lane.lane, lane.jobs) for lane in claimed.lanes]
            elif kind == 2 and held:
                token, lane, _ = held.pop(random.randrange(len(held)))
                action = random.choice([Action.RELEASE, Action.BLOCK, Action.RETRY])
                done = 1 if action is Action.RELEASE else 0
                partition.lanes().settle([Settlement(token, lane, done, action=action, attempts=1, error="E")])
            elif kind == 3:
                stop(partition, team)
            elif kind == 4:
                free(partition, random.choice(list(Why)), team, give_up=random.random() < 0.5)
            elif random.random() < 0.3:
                partition.expire_claims()
                _as_blocked(partition)
            partition.balanced()
        while any(look(partition, team).waiting for team in "ab"):
            for why in Why:
                free(partition, why, "a", "b")
            partition.expire_claims()
            claimed = partition.lanes().claim(lanes=2, jobs=9, per_lane=9)
            partition.lanes().settle(
                [Settlement(claimed.token, lane.lane, done=len(lane.jobs)) for lane in claimed.lanes]
            )
        books = partition.balanced().handlers["crm"]
        assert books.done + books.dead == books.routed == sum(seqs.values())


def _as_blocked(partition: Partition) -> None:
    """Expiring claims makes blocked lanes due too, which time would not."""
    for lane in partition.client.hkeys(partition.keys.blocked("crm")):
        if look(partition, lane.decode()).due is not None and not look(partition, lane.decode()).claimed:
            partition.client.zadd(partition.keys.ready("crm"), {lane: INF})
