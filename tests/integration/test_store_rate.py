"""A rate on a real server: never more calls in any stretch than it allows, none wasted, and shared out by teams."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from tests.store_kit import Partition
from worker.core.handlers import Rate
from worker.store import keys
from worker.store.client import connect
from worker.store.rate import Demand, RateStore, Taken
from worker.store.scripts import Scripts

ON_A_CLUSTER = True


def store(partition: Partition, calls: int, seconds: float) -> RateStore:
    return RateStore(partition.scripts, partition.settings.prefix, "crm", Rate(calls, seconds))


def now_of(partition: Partition) -> int:
    seconds, micros = partition.client.time()
    return int(seconds * 1000 + micros // 1000)


def granted(partition: Partition, *log: tuple[int, int]) -> int:
    """The log as it is after such grants: (ms ago, calls until then), the first one for what is past. Now, ms."""
    now = now_of(partition)
    texts = [f"{0 if place == 0 else now - ago} {total}" for place, (ago, total) in enumerate(log)]
    partition.client.rpush(keys.rate(partition.settings.prefix, "crm"), *texts)
    return now


def most_in_a_stretch(made: list[tuple[int, int]], stretch: int) -> int:
    """The most calls of (ms, calls) within a stretch, both of its ends included."""
    made = sorted(made)
    return max(sum(count for at, count in made if start <= at <= start + stretch) for start, _ in made)


def test_no_stretch_has_more_calls_than_allowed_whoever_takes_them_and_gives_some_back(partition: Partition) -> None:
    """Three workers at once; what is given back is used by others, and nothing is lost either."""
    made: list[tuple[int, int]] = []
    enough = threading.Event()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        with connect(partition.settings) as client:
            rate = RateStore(Scripts(client), partition.settings.prefix, "crm", Rate(20, 0.1))
            while not enough.is_set():
                taken = rate.take(chance.randint(1, 6))
                used = chance.randint(0, taken.granted) if chance.random() < 0.5 else taken.granted
                rate.give_back(taken.granted - used, taken)
                if used:
                    made.append((taken.at, used))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 20
    while sum(count for _, count in made) < 120 and time.monotonic() < deadline:
        enough.wait(0.01)
    enough.set()
    for worker in workers:
        worker.join()
    assert most_in_a_stretch(made, 100) == 20


def test_a_log_is_short_whatever_the_rate(partition: Partition) -> None:
    rate = store(partition, 10_000_000, 0.2)
    end = time.monotonic() + 0.5
    longest, key = 0, keys.rate(partition.settings.prefix, "crm")
    while time.monotonic() < end:
        rate.take(3)
        longest = max(longest, partition.client.llen(key))
    assert 3 < longest <= 102
    assert 0 < partition.client.pttl(key) <= 204


def test_calls_leave_the_stretch_when_their_time_is_over_and_not_before(partition: Partition) -> None:
    granted(partition, (0, 7), (10_300, 10), (9_000, 14), (1_000, 15))
    taken = store(partition, 10, 10.0).take(9)
    assert taken.granted == 5
    assert 1_000 <= taken.wait_ms <= 1_101
    assert store(partition, 10, 10.0).take(1).granted == 0


def test_what_others_were_granted_since_stays_used_when_calls_are_given_back(partition: Partition) -> None:
    """Taking the newest grants back instead would free calls that were made."""
    now = granted(partition, (0, 0), (9_000, 5), (1_000, 8))
    rate = store(partition, 8, 10.0)
    rate.give_back(4, Taken(5, 0, now - 9_000))
    log = partition.client.lrange(keys.rate(partition.settings.prefix, "crm"), 0, -1)
    assert [entry.split()[1] for entry in log] == [b"4", b"5", b"8"]
    partition.client.lset(keys.rate(partition.settings.prefix, "crm"), 1, f"{now - 11_000} 5")
    assert rate.take(8).granted == 5  # three were made a second ago


def test_what_was_given_back_stays_so_when_older_calls_leave_the_stretch(partition: Partition) -> None:
    now = granted(partition, (0, 0), (11_000, 1), (1_000, 6))
    rate = store(partition, 6, 10.0)
    partition.client.lset(keys.rate(partition.settings.prefix, "crm"), 1, f"{now - 9_000} 1")
    rate.give_back(4, Taken(5, 0, now - 1_000))
    partition.client.lset(keys.rate(partition.settings.prefix, "crm"), 1, f"{now - 11_000} 1")
    assert rate.take(6).granted == 4


def test_calls_that_have_left_the_stretch_are_not_given_back(partition: Partition) -> None:
    now = granted(partition, (0, 0), (1_000, 8))
    rate = store(partition, 8, 10.0)
    rate.give_back(4, Taken(4, 0, now - 11_000))
    assert rate.take(8).granted == 0


def test_a_refusal_says_when_a_call_is_free(partition: Partition) -> None:
    """To each its own: not all come running for the same one."""
    granted(partition, (0, 0), (9_000, 1), (5_000, 3), (1_000, 10))
    rate, demands = store(partition, 10, 10.0), {0: Demand(1, 9), 1: Demand(1, 9), 2: Demand(1, 9)}
    waits = [rate.take(1, number, demands).wait_ms for number in (0, 1, 2)]
    assert [round(wait, -3) for wait in waits] == [1_000, 1_000, 1_000]  # a tie, so far
    partition.client.hset(keys.rate_turns(partition.settings.prefix, "crm"), "1", "1 0")
    partition.client.hset(keys.rate_turns(partition.settings.prefix, "crm"), "2", "2 0")
    waits = [rate.take(1, number, demands).wait_ms for number in (0, 1, 2)]
    assert [round(wait, -3) for wait in waits] == [1_000, 5_000, 9_000]


def test_scarce_calls_are_shared_out_by_the_teams_at_work_in_each_partition(partition: Partition) -> None:
    """Whoever asks first, as often as it likes, and however much waits there."""
    demands = {0: Demand(2, 2000), 1: Demand(4, 4), 2: Demand(4, 900)}
    rate = store(partition, 20, 10.0)
    got: Counter[int] = Counter()
    for number in (0, 0, 2, 0, 1, 2, 1, 0):
        got[number] += rate.take(1000, number, demands).granted
    assert got == {0: 6, 1: 4, 2: 10}  # the second has no lanes for more; a tie is whose that asks


def test_a_partition_that_was_served_waits_until_the_others_were(partition: Partition) -> None:
    """Over stretches, too: what a partition got before is not forgotten with the calls."""
    demands = {number: Demand(5, 5) for number in range(4)}
    rate = store(partition, 5, 10.0)
    log, got = keys.rate(partition.settings.prefix, "crm"), Counter(dict.fromkeys(range(4), 0))
    for _ in range(8):
        for number in (0, 1, 2, 3):
            got[number] += rate.take(5, number, demands).granted
        partition.client.delete(log)  # as time does
    assert got == {0: 10, 1: 10, 2: 10, 3: 10}


def test_a_partition_that_comes_to_have_work_has_no_turns_saved_up(partition: Partition) -> None:
    rate, log = store(partition, 4, 10.0), keys.rate(partition.settings.prefix, "crm")
    for _ in range(5):
        assert rate.take(4, 0, {0: Demand(1, 9)}).granted == 4
        partition.client.delete(log)
    both = {0: Demand(1, 9), 1: Demand(1, 9)}
    assert [rate.take(4, number, both).granted for number in (0, 1)] == [2, 2]


def test_a_partition_for_which_nobody_comes_is_waited_for_a_while_and_no_longer(partition: Partition) -> None:
    demands = {0: Demand(1, 50), 1: Demand(9, 50)}
    rate = store(partition, 10, 10.0)
    first = rate.take(10, 0, demands)
    assert first.granted == 1
    assert rate.take(10, 0, demands).granted == 0
    turns = keys.rate_turns(partition.settings.prefix, "crm")
    tag, since = partition.client.hget(turns, "1").split()
    partition.client.hset(turns, "1", b"%s %d" % (tag, int(since) - 3001))
    assert rate.take(10, 0, demands).granted == 9


def test_calls_given_back_give_the_turn_back(partition: Partition) -> None:
    demands = {0: Demand(1, 9), 1: Demand(1, 9)}
    rate = store(partition, 4, 10.0)
    taken = rate.take(2, 0, demands)
    rate.give_back(taken.granted, taken, 0)
    assert partition.client.hget(keys.rate_turns(partition.settings.prefix, "crm"), "0").split()[0] == b"0"
    assert rate.take(4, 0, {0: Demand(1, 9)}).granted == 4
