"""`handoff audit`: clean books are exit code 0; drift is exit code 1 and names the partition and the numbers."""

from __future__ import annotations

from tests.cli_kit import Installation, shape
from tests.store_kit import PATIENT, change, to
from worker.store.keys import partition_of


def fill(installation: Installation) -> None:
    """Something of everything: done, waiting, dead, held, duplicate, quarantined and unread, in several partitions."""
    installation.start("crm", "mail")
    both = to("crm", "mail")
    installation.deliver("acme", change("acme", 1), change("acme", 2), change("acme", 1), b"not json", route=both)
    installation.settle("acme", done=1)
    installation.bury("acme", "mail")
    installation.deliver("beta", change("beta", 5), policy=PATIENT)
    for number in range(20):
        installation.of(f"team{number}").append(change(f"team{number}", 1))


def test_full_books_add_up(installation: Installation) -> None:
    fill(installation)
    ran = installation.run("audit")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    for check in ("deliveries", "bodies", "jobs of crm", "jobs of mail"):
        assert any(line.startswith(check) and line.rstrip().endswith("adds up") for line in lines), ran.out
    assert lines[-1] == "The books of 4 partitions add up."


def test_the_json_has_every_number(installation: Installation) -> None:
    fill(installation)
    document = installation.run("audit", "--json").json
    assert document["clean"] is True
    assert len(document["checks"]) == 4 * (2 + 2)
    deliveries = [check for check in document["checks"] if check["check"] == "deliveries"]
    assert sum(check["numbers"]["accepted"] for check in deliveries) == 25
    assert sum(check["numbers"]["unread"] for check in deliveries) == 20
    assert sum(check["numbers"]["held"] for check in deliveries) == 1
    assert shape(deliveries[0]) == {
        "check": "str",
        "handler": None,
        "partition": "int",
        "drift": "int",
        "numbers": dict.fromkeys(
            ("accepted", "duplicates", "quarantined", "proofs", "released", "held", "unread"), "int"
        ),
        "from_ledger": [],
    }


def drift(installation: Installation) -> list[tuple[str, str | None, int, int]]:
    ran = installation.run("audit", "--json")
    assert ran.code == 1
    assert ran.json["clean"] is False
    found = [check for check in ran.json["checks"] if check["drift"]]
    return [(check["check"], check["handler"], check["partition"], check["drift"]) for check in found]


def test_a_delivery_that_is_nowhere_is_found(installation: Installation) -> None:
    fill(installation)
    partition = partition_of("acme", 4)
    installation.client.hincrby(installation.of("acme").keys.ledger, "released", -1)
    ran = installation.run("audit")
    assert ran.code == 1
    assert f"DRIFT in partition {partition}" in ran.out
    assert f"partition {partition}, deliveries: 1 missing: accepted " in ran.out
    assert ran.out.splitlines()[-1] == "The books of 1 of 4 partitions do not add up."
    assert drift(installation) == [("deliveries", None, partition, 1)]


def test_a_job_that_vanished_is_found(installation: Installation) -> None:
    fill(installation)
    keys = installation.of("acme").keys
    installation.client.lpop(keys.lane("crm", "acme"))
    assert drift(installation) == [("jobs", "crm", keys.partition, 1)]


def test_a_body_that_vanished_is_found_and_one_that_nobody_needs(installation: Installation) -> None:
    fill(installation)
    keys = installation.of("acme").keys
    entry = installation.of("acme").in_lane("crm", "acme")[0].split()[0]
    installation.client.xdel(keys.inbox, entry)
    assert drift(installation) == [("bodies", None, keys.partition, -1)]
    installation.client.hincrby(keys.ledger, "stored", -3)
    assert drift(installation) == [("bodies", None, keys.partition, 2)]


def test_an_unread_delivery_taken_out_by_hand_is_found(installation: Installation) -> None:
    fill(installation)
    keys = installation.of("team3").keys
    newest = installation.client.xrevrange(keys.inbox, count=1)[0][0]
    installation.client.xdel(keys.inbox, newest)
    assert ("deliveries", None, keys.partition, 1) in drift(installation)


def test_a_handler_that_no_worker_announced_is_audited(installation: Installation) -> None:
    fill(installation)
    installation.client.delete(f"{installation.settings.prefix}:handlers")
    keys = installation.of("acme").keys
    installation.client.hincrby(keys.ledger, "done:mail", 2)
    assert drift(installation) == [("jobs", "mail", keys.partition, -2)]


def test_what_is_too_much_to_count_is_marked_and_counted_on_demand(installation: Installation) -> None:
    installation.start("crm")
    partition = installation.of("acme")
    for _ in range(3):
        partition.append(*[change("acme", seq) for seq in range(1000)])
    ran = installation.run("audit")
    assert ran.code == 0
    assert "adds up (unread from the ledger)" in ran.out
    assert ran.out.splitlines()[-1].endswith("--deep counts the rest.")
    deep = installation.run("audit", "--deep", "--json").json
    assert all(check["from_ledger"] == [] for check in deep["checks"])

    # An entry that the cursor skipped, which only counting finds.
    fifth = installation.client.xrange(partition.keys.inbox, count=5)[-1][0]
    installation.client.hset(partition.keys.state, "cursor", fifth)
    assert installation.run("audit").code == 0
    found = installation.run("audit", "--deep", "--json")
    assert found.code == 1
    assert {check["drift"] for check in found.json["checks"] if check["check"] != "jobs"} == {0, 5}


def test_nothing_to_check_is_clean(installation: Installation) -> None:
    ran = installation.run("audit", "--json")
    assert (ran.code, ran.json) == (0, {"clean": True, "partitions": 0, "checks": []})
    assert "nothing to check" in installation.run("audit").out
