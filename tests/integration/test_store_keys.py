"""What is on the server after everything has happened, beside the table in worker/store/keys.py."""

from __future__ import annotations

import re

import pytest

from tests.beats import beat
from tests.store_kit import PATIENT, Partition, change, other, partition_on, to
from worker.core.breaker import Circuit
from worker.core.dispatch import Terms
from worker.core.handlers import Rate
from worker.core.lanes import escaped
from worker.store import actions, keys
from worker.store.control import ControlStore
from worker.store.dead import DeadFilter, list_dead
from worker.store.heartbeats import Heartbeats
from worker.store.installation import announce_handlers, fix_partitions
from worker.store.keys import PartitionKeys, partition_of
from worker.store.lanes import Action, LaneStore, Settlement
from worker.store.pages import Window
from worker.store.rate import RateStore
from worker.store.replay import Plan, Replays

TEMPORARY = ("seconds", "90 days", "dedup window", "HANDOFF_MEMORY", "the rate's own time")
NASTY = ["", "{}", "{p07}", "}{", "a b", "a:b", "nul\0nul", "\n", "é✓", "*", "[a-z]", "x" * 1024]


def documented() -> dict[str, tuple[str, bool]]:
    """Pattern -> (type, whether it has a time to live), of the table: its columns begin where those of its rule do."""
    assert keys.__doc__ is not None
    lines = keys.__doc__.splitlines()
    rule = next(line for line in lines if line.startswith("==="))
    _, kind, meaning, life = (match.start() for match in re.finditer("=+", rule))
    rows = [line for line in lines if line.startswith("P:")]
    return {line[:kind].strip(): (line[kind:meaning].strip(), line[life:].startswith(TEMPORARY)) for line in rows}


def everything_happens(partition: Partition) -> None:
    """Lanes that run, retry and die; shared bodies; a gap; a quarantined body; bells and leases out."""
    p = partition
    fix_partitions(p.client, p.settings)
    announce_handlers(p.client, p.settings, [{"name": "crm"}])
    p.client.set(keys.sweeper(p.settings.prefix), "me", px=60_000)
    p.sequence(change("a", 1), change("a", 2), change("b", 1), other("c", 1), b"not json", route=to("crm", "mail"))
    p.sequence(change("a", 9), change("a", 1), policy=PATIENT, route=to("crm"))
    claim = p.lanes().claim(lanes=10, jobs=10, per_lane=1)
    p.lanes().settle(
        [
            Settlement(claim.token, "a", action=Action.BURY, attempts=1, error="E", text="e"),
            Settlement(claim.token, "b", action=Action.RETRY, attempts=1, delay_ms=60_000),
        ]
    )
    mail = p.lanes("mail").claim(lanes=10, jobs=10, per_lane=1)
    p.lanes("mail").settle(
        [
            Settlement(mail.token, "a", done=1),
            Settlement(mail.token, "b", action=Action.BLOCK, attempts=1, error="E"),
        ]
    )
    rated = LaneStore(p.client, p.scripts, p.keys, "wide", wide=True, team_rate=(1, 60_000))
    for bodies in ([change("w", 1)], [change("w", 2), change("x", 1), change("y", 1)]):
        p.sequence(*bodies, route=to(Terms("wide", None)))
        rated.claim(lanes=1, jobs=1, per_lane=1)
    Replays(p.client, p.settings.prefix, []).save(Plan("r", "crm", "me", 1, False, ()))
    p.client.hset(p.keys.replays, "r", "1")
    p.sequence(change("d", 1), route=to(Terms("crm", conflate=True)))
    crm = p.lanes().claim(lanes=10, jobs=10, per_lane=1)
    p.lanes().settle([Settlement(crm.token, "d", action=Action.BURY, attempts=1, error="E", text="e")])
    p.append(change("a", 3))
    p.step(p.acquire(), to("crm"), policy=PATIENT)
    p.client.hset(p.keys.blocked("crm"), "b", "{}")
    actions.record(p.client, p.settings.prefix, who="me", what="dead retry", args={}, count=1)
    control = ControlStore(p.client, p.scripts, p.settings.prefix, "crm")
    control.swap(control.read(), Circuit(row=1))
    RateStore(p.scripts, p.settings.prefix, "crm", Rate(5, 60.0)).take(1)
    Heartbeats(p.client, p.scripts, p.settings.prefix).write(beat())


def test_every_key_on_the_server_is_in_the_table_with_its_type_and_life_time(any_server_url: str, prefix: str) -> None:
    with partition_on(any_server_url, prefix, archive_events=10) as partition:
        _look_at_every_key(partition)


def _look_at_every_key(partition: Partition) -> None:
    everything_happens(partition)
    rows = {
        re.compile(re.sub(r"\\\{pNN\\\}", r"\\{p01\\}", re.sub(r"\b[NTXHL]\b", ".+", re.escape(row))) + "$"): row
        for row in documented()
    }
    touched = set()
    for name in partition.client.scan_iter(match=f"{partition.settings.prefix}:*"):
        short = "P" + name.decode().removeprefix(partition.settings.prefix)
        # The most exact pattern wins: bell before bell:H.
        row = next(row for pattern, row in sorted(rows.items(), key=lambda item: len(item[1])) if pattern.match(short))
        touched.add(row)
        kind, temporary = documented()[row]
        assert (short, partition.client.type(name).decode()) == (short, kind)
        assert (short, partition.client.pttl(name) > 0) == (short, temporary)
    assert touched == set(documented())


@pytest.mark.parametrize("value", NASTY)
def test_a_key_has_one_hash_tag_whatever_the_names_in_it(value: str) -> None:
    """Redis hashes what is between the first ``{`` and the first ``}`` after it, when that is not empty."""
    made = PartitionKeys("handoff", 7)
    for key in (
        made.team(value),
        made.owner(value, value),
        made.held(value),
        made.lane("crm", value),
        made.ready(value),
        made.claims(value),
        made.trouble(value),
        made.blocked(value),
        made.missed(value),
        made.runner_bell(value),
        made.seen(3),
        *(getattr(made, name) for name in ("inbox", "state", "lease", "bell", "gaps", "refs", "ledger", "quarantine")),
        *(getattr(made, name) for name in ("dead", "archive", "ids", "ends", "again", "replays")),
    ):
        assert key[key.index("{") + 1 : key.index("}")] == "p07"


def test_two_prospects_never_share_a_key_whatever_their_ids() -> None:
    made = PartitionKeys("handoff", 7)
    pairs = [("a", "b:c"), ("a:b", "c"), ("a:b:c", ""), ("", "a:b:c"), ("a%3Ab", "c"), ("a%b", "c"), ("a%25b", "c")]
    assert len({made.owner(team, prospect) for team, prospect in pairs}) == len(pairs)


@pytest.mark.parametrize("team", [name for name in NASTY if name])
def test_a_team_of_any_name_goes_through_everything(partition: Partition, team: str) -> None:
    """Sequenced, held, run, retried, buried, and nothing of it left behind but what is remembered."""
    p, by_team, by_prospect = partition, escaped(team), f"{escaped(team)}:{team}"
    p.sequence(change(team, 1, prospect=team, event_id="e1"), route=to("crm", Terms("mail", "prospect")))
    p.sequence(change(team, 3, prospect=team, assignee=team, event_id="e3"), policy=PATIENT)
    assert p.balanced().held == 1
    p.sequence(change(team, 2, prospect=team, assignee=None, event_id="e2"))
    assert p.seqs_in("crm", by_team) == [1, 2, 3]
    claim = p.lanes().claim(lanes=10, jobs=10, per_lane=10)
    (lane,) = claim.lanes
    assert [job.job.change and job.job.change.previous for job in lane.jobs] == [None, "m1", None]
    assert p.lanes().renew([(claim.token, by_team)]) == []
    assert p.lanes().settle([Settlement(claim.token, by_team, done=3)]) == {by_team: False}
    mail = p.lanes("mail").claim(lanes=10, jobs=10, per_lane=10)
    assert {job.team for one in (*claim.lanes, *mail.lanes) for job in one.jobs} == {team}
    assert p.lanes("mail").settle([Settlement(mail.token, by_prospect, action=Action.BURY)]) == {by_prospect: False}
    (letter,) = list_dead(p.client, [p.keys], DeadFilter(), Window(), 10).records
    assert (letter.team, letter.event_id) == (team, "e1")
    assert p.balanced().waiting == 0
    left = {name.split(":")[0] for name in p.names()}
    assert left == {"inbox", "state", "seen", "team", "owner", "ledger", "dead"}


def test_the_partition_of_a_team_is_the_same_for_ever() -> None:
    assert [partition_of(team, 16) for team in ("", "a", "team-1", "é")] == [0, 3, 9, 14]
