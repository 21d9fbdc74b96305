"""What becomes of a lane's jobs after a call that had several of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.batches import Apart, Conclusion, Decided, Ended, Item, blames_one, conclude
from worker.core.retry import Backoff, Block, Failure, GiveUp, RetryIn, decide

DONE, DISCARDED = Ended.DONE, Ended.DISCARDED
AGAIN, NEVER = Failure(asked=True), Failure(permanent=True)
OUTAGE = Failure(outage=True)
ATTEMPTS = 3


def policy(attempt: int, failure: Failure, *, block: bool = False) -> Decided:
    return Decided(decide(attempt, ATTEMPTS, Backoff(8, 8), failure, lambda: 0.5, block=block))


def blocking(attempt: int, failure: Failure) -> Decided:
    return policy(attempt, failure, block=True)


def excused(attempt: int, failure: Failure) -> Decided:
    return Decided(RetryIn(1), counted=False)


def after(*outcomes: Ended | Failure, keys: str = "", attempts: Sequence[int] = (), **options: bool) -> Conclusion:
    """Of items of different prospects, unless ``keys`` has a letter for each."""
    items = [Item(attempts[at] if attempts else 1, keys[at] if keys else f"p{at}") for at, _ in enumerate(outcomes)]
    found = conclude(items, outcomes, policy, **{"newest_only": True} | options)
    assert isinstance(found, Conclusion)
    return found


def test_what_ended_well_leaves_wherever_it_stands() -> None:
    assert after(DONE, DISCARDED, DONE) == Conclusion("dxd")
    assert after(DONE, AGAIN, DISCARDED, DONE) == Conclusion("d.xd", stays=1, delay=4)


def test_each_failure_is_judged_for_itself() -> None:
    assert after(NEVER, DONE, AGAIN, attempts=(1, 1, 3)) == Conclusion("DdD")
    assert after(AGAIN, NEVER, AGAIN, DONE).letters == ".D+d", "the second that stays counts its attempt itself"


def test_the_lane_waits_as_long_as_any_of_them_was_told_to() -> None:
    assert after(AGAIN, Failure(after=60)).delay == 60
    assert after(Failure(after=1), AGAIN).delay == 1, "and not for another's backoff"
    assert after(AGAIN, Failure(after=1e9)).delay == 24 * 3600
    assert after(AGAIN, Failure(after=60), attempts=(1, 3)).delay == 4, "who was given up waits for nothing"


def test_a_newer_change_of_the_prospect_overtakes_what_would_be_tried_again() -> None:
    assert after(AGAIN, DONE, keys="aa") == Conclusion("xd")
    assert after(AGAIN, AGAIN, DONE, keys="bab").letters == "x.d"
    assert after(DONE, AGAIN, keys="aa").letters == "d."
    assert after(AGAIN, DISCARDED, keys="aa").letters == ".x", "what nobody did has overtaken nothing"
    assert after(NEVER, DONE, keys="aa").letters == "Dd", "a refusal is for people to see"


def test_a_handler_of_everything_gets_it_again_marked() -> None:
    assert after(AGAIN, AGAIN, DONE, keys="aaa", newest_only=False).letters == "oOd"
    assert after(AGAIN, AGAIN, DONE, keys="aba", newest_only=False).letters == "o+d"


def test_a_stale_change_overtakes_nothing() -> None:
    found = conclude([Item(1, "a"), Item(1, "a", newest=False)], [AGAIN, DONE], policy, newest_only=True)
    assert isinstance(found, Conclusion)
    assert found.letters == ".d"


def test_a_change_without_a_prospect_overtakes_nothing() -> None:
    found = conclude([Item(1, None), Item(1, None)], [AGAIN, DONE], policy, newest_only=True)
    assert isinstance(found, Conclusion)
    assert found.letters == ".d"


def test_only_the_first_that_stays_can_block_the_lane() -> None:
    items = [Item(3, "a"), Item(1, "b"), Item(3, "c")]
    assert conclude(items, [AGAIN, DONE, AGAIN], blocking, newest_only=True) == Conclusion(".d+", stays=0, blocks=True)
    found = conclude([Item(1, "a"), Item(3, "b")], [AGAIN, AGAIN], blocking, newest_only=True)
    assert found == Conclusion(".+", stays=0, delay=4), "the other blocks it when it is first"


def test_an_attempt_that_is_excused_is_not_counted() -> None:
    found = conclude([Item(1, "a"), Item(1, "b")], [OUTAGE, OUTAGE], excused, newest_only=True)
    assert found == Conclusion(".-", stays=0, counted=False, delay=1), "but it was called, and may have taken effect"
    found = conclude([Item(1, "b"), Item(1, "a"), Item(1, "a")], [OUTAGE, OUTAGE, DONE], excused, newest_only=False)
    assert found == Conclusion(".od", stays=0, counted=False, delay=1)


@pytest.mark.parametrize(
    ("failure", "blames"),
    [(Failure(), True), (NEVER, True), (OUTAGE, False), (AGAIN, False), (Failure(permanent=True, outage=True), True)],
)
def test_what_may_be_the_fault_of_one_puts_its_call_apart(failure: Failure, blames: bool) -> None:
    assert blames_one(failure) is blames
    items = [Item(1, "a"), Item(1, "b")]
    apart = conclude(items, [failure, failure], policy, newest_only=True, together=True)
    assert isinstance(apart, Apart) is blames
    assert isinstance(conclude(items, [failure, failure], policy, newest_only=True), Conclusion)


@pytest.mark.parametrize("judge", [policy, blocking])
def test_nobody_is_given_up_for_a_call_that_failed_as_a_whole(judge: object) -> None:
    items = [Item(1, "a"), Item(3, "b")]
    found = conclude(items, [OUTAGE, OUTAGE], judge, newest_only=True, together=True)  # type: ignore[arg-type]
    assert found == Apart()


outcomes = st.sampled_from([DONE, DISCARDED, AGAIN, NEVER, OUTAGE, Failure(), Failure(after=9.0)])
jobs = st.lists(st.tuples(st.builds(Item, st.integers(1, 4), st.sampled_from("abc"), st.booleans()), outcomes))


@given(jobs, st.booleans(), st.booleans())
def test_any_call(called: list[tuple[Item, Ended | Failure]], newest_only: bool, block: bool) -> None:
    items, ends = [item for item, _ in called], [end for _, end in called]
    found = conclude(items, ends, blocking if block else policy, newest_only=newest_only)
    assert isinstance(found, Conclusion)
    assert len(found.letters) == len(called)
    stay = [at for at, letter in enumerate(found.letters) if letter in ".-+oO"]
    assert found.stays == (stay[0] if stay else None)
    for at, ((attempt, key, _), end) in enumerate(called):
        letter = found.letters[at]
        if isinstance(end, Ended):
            assert letter == end.value
            continue
        given_up = end.permanent or (attempt >= ATTEMPTS and not block)
        overtaken = any(i.key == key and i.newest and e is DONE for i, e in called[at + 1 :])
        assert (letter == "D") is given_up
        assert given_up or (letter == "x") is (overtaken and newest_only)
        assert (letter in "oO") is (overtaken and not newest_only and not given_up)
        assert (letter in "+O") is (at in stay[1:]), "each that stays counts its attempt once: the first with its lane"
    if stay and not found.blocks:
        assert found.delay > 0, "never at once again"
    if newest_only:
        last_done = {item.key: at for at, (item, end) in enumerate(called) if end is DONE and item.newest}
        assert all(at > last_done.get(items[at].key, -1) for at in stay), "no older one is called after a newer"


def test_the_decisions_are_those_of_single_calls() -> None:
    assert policy(3, OUTAGE).end == GiveUp("exhausted")
    assert blocking(3, OUTAGE).end == Block("exhausted")
