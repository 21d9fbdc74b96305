"""Teams take turns at a handler, however many lanes each has; and none gets more calls than its rate allows."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

from tests.store_kit import Partition, change, to
from worker.core.dispatch import Terms
from worker.core.handlers import Rate
from worker.store.client import connect
from worker.store.lanes import Action, Claim, LaneStore, Settlement
from worker.store.look import look
from worker.store.rate import TeamRates, demand
from worker.store.scripts import Scripts

WIDE = to(Terms("crm", None))
"""A lane for each event."""


def wide(partition: Partition, *, team_rate: tuple[int, int] = (0, 1), client: Any = None) -> LaneStore:
    client = client or partition.client
    return LaneStore(client, Scripts(client), partition.keys, "crm", wide=True, team_rate=team_rate)


def fill(partition: Partition, **teams: int) -> None:
    """So many lanes of each team, all of one team's before the next one's."""
    for team, count in teams.items():
        partition.sequence(*(change(team, seq) for seq in range(start(partition, team), count + 1)), route=WIDE)


def start(partition: Partition, team: str) -> int:
    return 1 if partition.client.get(partition.keys.team(team)) is None else 2


def teams_of(claim: Claim) -> list[str]:
    return [job.team for lane in claim.lanes for job in lane.jobs]


def claim(store: LaneStore, lanes: int = 1) -> Claim:
    return store.claim(lanes=lanes, jobs=lanes, per_lane=1)


def done(store: LaneStore, found: Claim) -> None:
    store.settle([Settlement(found.token, lane.lane, done=len(lane.jobs)) for lane in found.lanes])


def order(store: LaneStore, calls: int, lanes: int = 1) -> str:
    """The teams of so many claims, each of which is done before the next."""
    called = ""
    for _ in range(calls):
        found = claim(store, lanes)
        called += "".join(teams_of(found))
        done(store, found)
    return called


def test_a_team_with_one_job_comes_next_whatever_another_has(partition: Partition) -> None:
    fill(partition, a=1500, b=1)
    store = wide(partition)
    assert order(store, 4) == "abaa"
    fill(partition, c=1)
    assert order(store, 3).index("c") <= 1


def test_teams_take_turns_while_they_have_work(partition: Partition) -> None:
    fill(partition, a=9, b=3, c=6)
    assert order(wide(partition), 9, 2) == "abcabcabcacacacaaa"


def test_a_team_saves_no_turns_up_while_it_has_nothing_to_do(partition: Partition) -> None:
    """Nor is what it had before held against it when all were done."""
    fill(partition, a=30, b=1)
    store = wide(partition)
    order(store, 20)
    fill(partition, b=10)
    called = order(store, 8)
    assert abs(called.count("a") - called.count("b")) <= 1
    order(store, 30)
    assert not partition.client.exists(partition.keys.turns("crm"))


def test_a_lane_with_more_jobs_goes_behind_those_of_its_team(partition: Partition) -> None:
    by_prospect = to(Terms("crm", "prospect"))
    partition.sequence(
        *(change("a", seq, prospect=prospect) for seq, prospect in enumerate("xxxyz", 1)),
        *(change("b", seq, prospect="x") for seq in (1, 2)),
        route=by_prospect,
    )
    store, lanes = wide(partition), []
    for _ in range(7):
        found = claim(store)
        lanes += [lane.lane for lane in found.lanes]
        done(store, found)
    assert [lane for lane in lanes if lane.startswith("a:")] == ["a:x", "a:y", "a:z", "a:x", "a:x"]
    assert lanes.index("b:x") <= 1
    assert sorted(lanes[:4]) == ["a:x", "a:y", "b:x", "b:x"]


def test_retries_and_leases_that_ran_out_take_their_turns_too(partition: Partition) -> None:
    fill(partition, a=5, b=5)
    store = wide(partition)
    failed = claim(store, 2)
    for lane in failed.lanes[:1]:
        store.settle([Settlement(failed.token, lane.lane, action=Action.RETRY, attempts=1, delay_ms=0)])
    partition.expire_claims()
    assert len(order(store, 10)) == 10
    assert partition.balanced("crm").handlers["crm"].waiting == 0


def test_so_many_turns_are_given_at_once_and_all_in_the_end(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.store.scripts.source", _with("TAGGED = 1e12, 256, 2000", "TAGGED = 1e12, 256, 10"))
    partition.scripts = Scripts(partition.client)
    fill(partition, a=95, b=1)
    store = LaneStore(partition.client, partition.scripts, partition.keys, "crm", wide=True)
    assert order(store, 12).index("b") == 9  # the tenth claim is the first to meet it


def _with(old: str, new: str) -> Any:
    from worker.store.scripts import source

    def changed(name: str) -> str:
        text = source(name)
        assert name != "claim" or old in text
        return text.replace(old, new)

    return changed


def test_a_lane_in_turn_is_seen_as_due_since_somebody_last_came(partition: Partition) -> None:
    fill(partition, a=5)
    done(store := wide(partition), claim(store))
    seen = look(partition.scripts, partition.keys, ["crm"]).handlers["crm"]
    assert (seen.lanes, seen.due, seen.claimed, seen.backing_off) == (4, 4, 0, 0)
    assert seen.overdue_ms is not None
    assert seen.overdue_ms < 60_000
    assert demand(partition.client, [partition.keys], "crm", wide=True) == {1: (1, 4)}


def test_a_team_gets_no_more_calls_than_its_rate_and_is_in_nobodys_way(partition: Partition) -> None:
    fill(partition, a=600, b=2, c=1)
    store = wide(partition, team_rate=(3, 60_000))
    assert Counter(order(store, 12)) == {"a": 3, "b": 2, "c": 1}
    found = claim(store)
    while found.more:  # the rest of those that wait is put aside, a bounded number at once
        found = claim(store)
    assert found.next_due is not None
    assert found.next_due - found.now > 50_000
    assert partition.balanced("crm").handlers["crm"].waiting == 597


def test_lanes_that_wait_for_their_teams_rate_come_when_there_are_calls_for_them(partition: Partition) -> None:
    """Not all at once, to be put aside again, each of them in every stretch."""
    fill(partition, a=20)
    store = wide(partition, team_rate=(2, 10_000))
    done(store, claim(store, 9))
    now = claim(store, 9).now
    waits = [
        round((due - now) / 1000)
        for _, due in partition.client.zrange(partition.keys.ready("crm"), 0, -1, withscores=True)
    ]
    assert waits == [10 + 5 * place for place in range(18)]
    assert partition.client.pttl(partition.keys.parked("crm")) > 90_000


def test_lanes_by_team_wait_for_their_own_rate_only(partition: Partition) -> None:
    partition.sequence(*(change(team, seq) for team in "ab" for seq in (1, 2, 3)))
    store = LaneStore(partition.client, partition.scripts, partition.keys, "crm", team_rate=(1, 60_000))
    assert (order(store, 3, 9), claim(store, 9).more) == ("ab", False)
    partition.sequence(change("c", 1))
    assert order(store, 1, 9) == "c"


def test_no_stretch_has_more_calls_of_a_team_than_allowed_whoever_claims(partition: Partition) -> None:
    fill(partition, a=300, b=300)
    made: list[tuple[int, str]] = []
    enough = threading.Event()

    def work() -> None:
        with connect(partition.settings) as client:
            store = wide(partition, team_rate=(10, 100), client=client)
            while not enough.is_set():
                found = claim(store, 3)
                made.extend((found.now, team) for team in teams_of(found))
                done(store, found)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 20
    while len(made) < 120 and time.monotonic() < deadline:
        enough.wait(0.01)
    enough.set()
    for worker in workers:
        worker.join()
    for team in "ab":
        times = sorted(at for at, name in made if name == team)
        assert max(sum(start <= at <= start + 100 for at in times) for start in times) == 10
    partition.balanced("crm")


def test_a_crash_uses_its_call_and_what_was_not_begun_is_given_back(partition: Partition) -> None:
    fill(partition, a=5)
    store = wide(partition, team_rate=(2, 60_000))
    crashed = claim(store)
    partition.expire_claims()  # nobody gave it back: its call may have been made
    handed_back = claim(store)
    assert len(crashed.lanes + handed_back.lanes) == 2
    assert claim(store).lanes == []
    lane = handed_back.lanes[0].lane
    store.settle([Settlement(handed_back.token, lane)])
    rates = TeamRates(partition.scripts, partition.keys, "crm", Rate(2, 60.0))
    rates.give_back(1, lane, handed_back.now)
    partition.expire_claims()
    assert (len(claim(store, 9).lanes), len(claim(store, 9).lanes)) == (1, 0)


def test_blocked_lanes_get_no_turn(partition: Partition) -> None:
    fill(partition, a=3, b=1)
    first = partition.client.zrange(partition.keys.ready("crm"), 0, 0)[0]
    partition.client.hset(partition.keys.blocked("crm"), first, "{}")
    assert Counter(order(wide(partition), 5)) == {"a": 2, "b": 1}
    assert partition.client.zscore(partition.keys.ready("crm"), first) == float("inf")


def test_a_handler_that_is_ordered_by_team_again_serves_what_was_in_turn(partition: Partition) -> None:
    fill(partition, a=3, b=3)
    done(store := wide(partition), claim(store))
    assert len(order(partition.lanes(), 5)) == 5
    assert not partition.client.exists(partition.keys.turns("crm"))
