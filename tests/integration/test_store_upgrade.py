"""Workers of two releases on one server, as in the middle of a rolling upgrade, and after one that is taken back.

The older one's scripts (tests/data/scripts-before-tokens-by-chance) are those of a release that drew tokens from a
counter on the server, kept a sequencer's token for as long as its lease, and did not count the writes of a lane's
owner. Each has to leave alone what the other has, and to go on with what it left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.store_kit import Partition, change
from worker.errors import LeaseLost
from worker.store.lanes import Action, Settlement
from worker.store.scripts import Scripts, Word

BOTH = [("before", "now"), ("now", "before"), ("before", "before")]
OLD = Path(__file__).parents[1] / "data" / "scripts-before-tokens-by-chance"


class OldScripts(Scripts):
    """Called as today's are, it runs the older ones, with the words and under the tokens that were theirs."""

    def __init__(self, client: Any, state: str) -> None:
        super().__init__(client)
        self._old = {path.stem: path.read_text() for path in OLD.glob("*.lua")}
        self._state = state
        self._tokens: dict[Word, int] = {}  # today's -> the server's

    def run(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        keys, args = list(keys), list(args)
        match name:
            case "acquire":
                del keys[3:]
                ours = args[2]
                del args[2:]
            case "commit":
                del keys[1]
                ours = self._tokens.get(args[0], args[0])
                self._tokens[args[5]] = self._tokens[args[0]]
                args = [ours, *args[1:4], *_commands(args[7:])]
            case "claim":
                keys.insert(4, self._state)
                keys.pop()  # the inbox: bodies did not come along
                ours = args[8]
                del args[8:]
            case "settle":
                args = args[:2] + self._outcomes(args[2:])
            case "release":
                args[0] = self._tokens[args[0]]
            case "renew":
                args[1::2] = [self._tokens[token] for token in args[1::2]]
        if name not in self._old:
            return super().run(name, keys, args)
        answer: Any = self._client.eval(self._old[name], len(keys), *keys, *args)
        if name == "claim" or (name == "acquire" and answer[0]):
            self._tokens[ours] = answer[0]
            return [*answer[1:4], [], *answer[4:]] if name == "claim" else [1, *answer[1:], None]
        return answer

    def _outcomes(self, words: Sequence[Word]) -> list[Word]:
        made: list[Word] = []
        at = 0
        while at < len(words):
            token, lane, _writes, *rest = words[at : at + 10]
            end = at + 10 + 4 * int(rest[-1])
            made += (self._tokens[token], lane, *rest, *words[at + 10 : end])
            at = end
        return made


def _commands(words: Sequence[Word]) -> list[Word]:
    """The same commands of a commit, with one key less before theirs."""
    made: list[Word] = []
    at = 0
    while at < len(words):
        count, command, key, *rest = words[at : at + 1 + int(words[at])]
        made += (count, command, int(key) - 1, *rest)
        at += 1 + int(count)
    return made


@pytest.fixture(params=BOTH, ids=["-then-".join(pair) for pair in BOTH])
def workers(request: pytest.FixtureRequest, partition: Partition) -> list[Partition]:
    """The first and the second to get the partition's leases."""
    made = []
    for release in request.param:
        worker = Partition(partition.settings, partition.client, partition.keys)
        if release == "before":
            worker.scripts = OldScripts(partition.client, partition.keys.state)
        made.append(worker)
    return made


def rest_of(worker: Partition) -> list[int]:
    """The seqs of all jobs that are left, as ``worker`` runs them."""
    store, seqs = worker.lanes(), list[int]()
    while (claim := store.claim(lanes=10, jobs=10, per_lane=10)).lanes:
        for lane in claim.lanes:
            seqs += [job.job.seq for job in lane.jobs]
            assert store.settle([Settlement(claim.token, lane.lane, done=len(lane.jobs))])
    return seqs


def test_a_lane_is_one_worker_s_and_goes_on_with_the_other_where_it_was_left(workers: list[Partition]) -> None:
    first, second = workers
    first.sequence(*(change("a", seq) for seq in range(1, 7)))
    store = first.lanes()
    claim = store.claim(lanes=10, jobs=10, per_lane=10)
    for _ in range(2):
        assert store.settle([Settlement(claim.token, "a", done=1, action=Action.HOLD)]) == {"a": True}
    assert store.renew([(claim.token, "a")]) == []
    assert second.lanes().claim(lanes=10, jobs=10, per_lane=10).lanes == []

    first.expire_claims()
    taken_over = second.lanes()
    again = taken_over.claim(lanes=10, jobs=10, per_lane=10)
    ((lane, jobs),) = [(lane, [job.job.seq for job in lane.jobs]) for lane in again.lanes]
    assert (lane.crashed, lane.careful, jobs) == (True, True, [3])
    assert store.renew([(claim.token, "a")]) == ["a"]
    for action in (Action.HOLD, Action.RELEASE):
        assert store.settle([Settlement(claim.token, "a", done=1, action=action)]) == {}
    assert taken_over.settle([Settlement(again.token, "a", done=1)]) == {"a": True}
    assert rest_of(first) == [4, 5, 6]
    first.balanced()
    assert first.books().handlers["crm"].done == 6


def test_attempts_are_counted_on_by_the_other(workers: list[Partition]) -> None:
    first, second = workers
    first.sequence(change("a", 1), change("a", 2))
    for worker, attempt in ((first, 1), (second, 2), (first, 3), (second, 4)):
        store = worker.lanes()
        claim = store.claim(lanes=10, jobs=10, per_lane=1)
        (lane,) = claim.lanes
        assert (lane.attempt, lane.crashed) == (attempt, False)
        store.settle([Settlement(claim.token, "a", action=Action.RETRY, attempts=attempt)])
    assert rest_of(first) == [1, 2]
    first.balanced()


def test_a_partition_has_one_sequencer_and_goes_on_with_the_other_where_it_was_left(workers: list[Partition]) -> None:
    first, second = workers
    first.append(*(change("a", seq) for seq in range(1, 7)))
    lease = first.acquire()
    assert second.store.acquire() is None
    first.step(lease, count=1)
    first.step(lease, count=1)

    first.expire_lease()
    next_lease = second.acquire()
    assert first.store.acquire() is None
    before = first.dump()
    with pytest.raises(LeaseLost):
        first.step(lease, count=1)
    with pytest.raises(LeaseLost):
        first.store.release(lease, hand_on=True)
    assert first.dump() == before
    second.step(next_lease, count=1)
    second.step(next_lease, count=1)
    second.store.release(next_lease, hand_on=True)
    first.step(first.acquire())
    assert first.seqs_in("crm", "a") == [1, 2, 3, 4, 5, 6]
    first.balanced()
