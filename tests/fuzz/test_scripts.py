"""Hostile ids through every script that takes them, on every kind of server: nothing fails, nobody sees another's.

Ids are chosen to collide: parts of keys, of lanes' names, of patterns, of the words of a job.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.hostile import NASTY_IDS
from tests.fuzz.profile import examples
from tests.store_kit import HANDLERS, Partition, change, other, partition_on, to
from worker.core.dispatch import Terms
from worker.core.envelope import read
from worker.core.lanes import escaped, team_of, unescaped
from worker.store.blocking import Why, blocked_names, look_at, names, pause, troubled_names, unblock
from worker.store.dead import DeadFilter, list_dead, select_dead
from worker.store.lanes import Action, Attempt, ClaimedLane, LaneStore, Settlement
from worker.store.look import look
from worker.store.pages import Window
from worker.store.quarantine import list_quarantine, requeue, select_quarantine
from worker.store.revival import Revival, drop
from worker.store.trace import Tracer

TEAMS = ["a", "a:b", "a%3Ab", "a%253Ab", "a b", "{p01}", "{p02}", *[each for each in NASTY_IDS if each]]
PROSPECTS = ["p", "b:p", ":", *TEAMS]
ROUTE = to(Terms("crm", "team"), Terms("mail", "prospect", conflate=True), Terms("audit", None))
NUMBERS = itertools.count()


@st.composite
def stories(draw: st.DrawFn) -> list[bytes]:
    """Events of a few teams whose ids, prospects and owners are picked to be taken for one another."""
    teams = draw(st.lists(st.sampled_from(TEAMS), min_size=1, max_size=4, unique=True))
    picked = st.sampled_from(draw(st.lists(st.sampled_from(PROSPECTS), min_size=1, max_size=4)))
    found = []
    for team in teams:
        for seq in range(1, draw(st.integers(2, 5))):
            event_id = draw(st.sampled_from([f"{seq}", f"{team}-{seq}", f"{draw(picked)} {seq}"]))[:1024]
            if draw(st.integers(0, 4)):
                owner = draw(st.none() | picked)
                found.append(change(team, seq, prospect=draw(picked), assignee=owner, event_id=event_id))
            else:
                found.append(other(team, seq, event_type=draw(picked), event_id=event_id))
    return draw(st.permutations(found))


def settled(draw: Any, claim_token: int, lane: ClaimedLane) -> Settlement:
    """Any way that a lane's first job can end, with words that mean something to somebody."""
    words = draw(st.sampled_from(NASTY_IDS))
    attempt = max(1, lane.attempt)
    failed = [Attempt(attempt, 1, words, words)]
    action = draw(st.sampled_from([Action.RELEASE, Action.RELEASE, *Action]))
    return Settlement(
        claim_token,
        lane.lane,
        done=0 if action in (Action.BURY, Action.BLOCK, Action.RETRY) else draw(st.integers(0, len(lane.jobs))),
        action=action,
        delay_ms=draw(st.sampled_from([0, 1, 60_000])),
        attempts=attempt,
        failed=failed,
        error=words,
        text=words,
    )


def stores(partition: Partition) -> dict[str, LaneStore]:
    made = {"crm": {"team_rate": (2, 50)}, "mail": {"wide": True, "conflate": True}, "audit": {"wide": True}}
    return {
        name: LaneStore(partition.client, partition.scripts, partition.keys, name, **options)  # type: ignore[arg-type]
        for name, options in made.items()
    }


def check_claimed(lane: ClaimedLane) -> None:
    """What is claimed is its own team's, in its order."""
    for job in lane.jobs:
        event = read(job.body)
        assert event.team == job.team == team_of(lane.lane)
        assert event.seq == job.job.seq
    in_order = [job.job.seq for job in lane.jobs if not job.job.late]
    assert in_order == sorted(in_order)


def people_act(draw: Any, partition: Partition) -> None:
    """What the command line does: pause, look, let on, list, send again, drop, trace."""
    client, scripts, keys = partition.client, partition.scripts, partition.keys
    handler = draw(st.sampled_from(HANDLERS))
    team, by = draw(st.sampled_from(TEAMS)), draw(st.sampled_from(NASTY_IDS))
    lanes = list(names(client, keys, handler, team))
    assert all(lane.partition(":")[0] == escaped(team) for lane in lanes), "no other team's"
    pause(scripts, keys, handler, lanes, by)
    assert [found.lane for found in look_at(scripts, keys, handler, lanes)] == lanes
    for _ in (list(blocked_names(client, keys, handler)), list(troubled_names(client, keys, handler))):
        pass
    for why in Why:
        unblock(scripts, keys, handler, lanes, why, give_up=draw(st.booleans()))
    window = Window()
    list_dead(client, [keys], DeadFilter(team=team), window, 10)
    letters = select_dead(client, [keys], DeadFilter(handler=handler), window)
    if letters and draw(st.booleans()):
        Revival(client, scripts, {keys.partition: keys}).revive(letters[:10])
    elif letters:
        drop(scripts, keys, letters[:10])
    list_quarantine(client, [keys], window, 10, team=team)
    requeue(scripts, keys, select_quarantine(client, [keys], window)[:10])
    look(scripts, keys, HANDLERS)
    tracer = Tracer(client, [keys])
    event_id = draw(st.sampled_from(NASTY_IDS))
    assert all(found.event.id == event_id for found in [*tracer.indexed(event_id), *tracer.searched(event_id)[0]])


def nothing_is_left(partition: Partition) -> None:
    """Everything that waits is let on and done: a lane that cannot be reached any more would stay."""
    for handler, store in stores(partition).items():
        blocked = list(blocked_names(partition.client, partition.keys, handler))
        for why in Why:
            unblock(partition.scripts, partition.keys, handler, blocked, why)
        for _ in range(5000):  # a team's rate of two in 50 ms takes its time
            partition.expire_claims(handler)
            partition.client.delete(partition.keys.parked(handler))
            claim = store.claim(lanes=50, jobs=500, per_lane=500)
            for lane in claim.lanes:
                check_claimed(lane)
            if claim.lanes:
                store.settle([Settlement(claim.token, lane.lane, done=len(lane.jobs)) for lane in claim.lanes])
            elif not partition.client.exists(partition.keys.ready(handler)):
                break
        assert not partition.client.exists(partition.keys.ready(handler))
    assert partition.balanced().waiting == 0


@examples(6)
@given(st.data())
def test_ids_that_collide_mix_nothing_up(any_server_url: str, data: st.DataObject) -> None:
    draw = data.draw
    with partition_on(any_server_url, f"f{next(NUMBERS)}", archive_events=draw(st.sampled_from([0, 5]))) as partition:
        partition.client.flushdb()
        for _ in range(draw(st.integers(1, 2))):
            partition.sequence(*draw(stories()), b"not an event", route=ROUTE)
            partition.balanced()
            for store in stores(partition).values():
                claim = store.claim(lanes=draw(st.integers(1, 9)), jobs=20, per_lane=draw(st.integers(1, 3)))
                for lane in claim.lanes:
                    check_claimed(lane)
                assert store.renew([(claim.token, lane.lane) for lane in claim.lanes]) == []
                outcomes = [settled(draw, claim.token, lane) for lane in claim.lanes]
                assert set(store.settle(outcomes)) == {lane.lane for lane in claim.lanes}
                partition.balanced()
            people_act(draw, partition)
            partition.balanced()
        partition.sequence(route=ROUTE)
        nothing_is_left(partition)
        base = partition.keys.base.encode() + b":"
        assert [key for key in partition.client.scan_iter(count=1000) if not key.startswith(base)] == []


@examples(200)
@given(st.text(), st.text())
def test_names_of_lanes_are_as_different_as_their_teams(one: str, other_one: str) -> None:
    assert unescaped(escaped(one)) == one
    assert ":" not in escaped(one)
    assert (escaped(one) == escaped(other_one)) is (one == other_one)
    assert team_of(f"{escaped(one)}:{other_one}") == one
