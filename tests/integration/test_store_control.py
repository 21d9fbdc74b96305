"""What is kept of a handler as a whole, under processes that decide at the same time."""

from __future__ import annotations

import threading

from tests.store_kit import Partition
from worker.core.breaker import Breaker, Circuit, Outcomes, observe
from worker.store.control import ControlStore, Paused, controls

POLICY = Breaker(calls=1_000_000, window=3600)
FAILURE = Outcomes(failed=1, failing=frozenset({"a"}), error="KeyError")

ON_A_CLUSTER = True


def store_of(partition: Partition, handler: str = "crm") -> ControlStore:
    return ControlStore(partition.client, partition.scripts, partition.settings.prefix, handler)


def test_what_was_never_written_is_closed_and_not_paused(partition: Partition) -> None:
    control = store_of(partition).read()
    assert (control.circuit, control.paused, control.version) == (Circuit(), None, 0)


def test_a_circuit_is_read_as_it_was_written(partition: Partition) -> None:
    store = store_of(partition)
    read = store.read()
    circuit = observe(Circuit(opened=5, until=9, probe="x", suspects=("a", "b")), POLICY, FAILURE, read.now)
    assert store.swap(read, circuit)
    assert store.read().circuit == circuit
    counted = observe(Circuit(), POLICY, FAILURE, read.now)
    assert store.swap(store.read(), counted)
    assert store.read().circuit == counted


def test_of_two_that_decide_on_the_same_circuit_one_has_to_look_again(partition: Partition) -> None:
    store = store_of(partition)
    first, second = store.read(), store.read()
    assert store.swap(first, Circuit(row=1))
    assert not store.swap(second, Circuit(row=2))
    assert not store.swap(first, Circuit(row=3))
    assert store.read().circuit == Circuit(row=1)


def test_no_failure_is_lost_between_processes(partition: Partition) -> None:
    """Eight at once, each tells of twenty failures: all of them are counted."""

    def tell() -> None:
        store = store_of(partition)
        for _ in range(20):
            while True:
                read = store.read()
                if store.swap(read, observe(read.circuit, POLICY, FAILURE, read.now)):
                    break

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bucket.failed for bucket in store_of(partition).read().circuit.buckets) == 160


def test_a_circuit_that_another_version_wrote_begins_afresh(partition: Partition) -> None:
    store = store_of(partition)
    assert store.swap(store.read(), Circuit(row=1))
    partition.client.hset(f"{partition.settings.prefix}:control:{{crm}}", "circuit", '{"row": "many"}')
    assert store.read().circuit == Circuit()
    assert store.swap(store.read(), Circuit(row=2))


def test_pausing_and_resuming_say_whether_they_changed_anything(partition: Partition) -> None:
    store = store_of(partition)
    before = store.read().now
    assert store.pause("ada@desk")
    assert not store.pause("ben@lap")
    paused = store.read().paused
    assert isinstance(paused, Paused)
    assert paused.by == "ada@desk"
    assert before <= paused.at <= store.read().now
    assert store.swap(store.read(), Circuit(row=1))
    assert store.read().paused == paused
    assert store.resume()
    assert not store.resume()
    assert (store.read().paused, store.read().circuit) == (None, Circuit(row=1))


def test_several_are_read_at_once(partition: Partition) -> None:
    store_of(partition, "mail").pause("ada")
    found = controls(partition.client, partition.settings.prefix, ["crm", "mail", "audit"])
    assert [name for name, control in found.items() if control.paused] == ["mail"]
    assert controls(partition.client, partition.settings.prefix, []) == {}
