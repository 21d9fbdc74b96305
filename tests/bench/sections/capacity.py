"""What 1,000,000 events a second would take, worked out from what is measured here (tests/bench/capacity.py)."""

from __future__ import annotations

import random
from itertools import islice
from statistics import median
from typing import Final

from tests.bench.arena import measure
from tests.bench.capacity import (
    POWERS,
    UTILISATION,
    WAIT,
    Costs,
    cores,
    fit,
    hottest_share,
    most_rate,
    needs,
    places,
)
from tests.bench.contenders.handoff import Handoff
from tests.bench.inside import Cost, inside
from tests.bench.sections import Section
from tests.bench.synthetic import FIRST, Stream, team_of, weights
from tests.bench.workload import Workload
from worker.settings import DEFAULT_PARTITIONS
from worker.store.keys import partition_of

RATE: Final = 1_000_000
TEAMS: Final = 100_000
EXPONENTS: Final = (0.0, 0.5, 0.7, 1.1)
"""Of the teams' sizes: all alike, somewhat unlike, very unlike, and as in W1."""
ROUNDS: Final = 3
SMALL: Final = (1, 8, 32)  # deliveries of a batch, to see what a batch costs with nothing in it
TIMES: Final = 60
SHOWN: Final = (16, 64, 256, 1024)


def capacity(workload: Workload) -> Section:
    costs = measured(workload)
    rows: list[tuple[str, float, str]] = [
        ("worker, an event to a handler that does nothing", costs.worker, "us"),
        ("server, the same", costs.server, "us"),
        ("a partition's writer, an event, both sides", costs.writer, "us"),
        ("a batch, whatever is in it, both sides", costs.batch, "us"),
        (f"so one partition takes, at {UTILISATION:.0%}", costs.most(), "events/s"),
    ]
    series: dict[str, list[dict[str, float]]] = {}
    placed = [places(_ids(workload.seed + number)) for number in range(ROUNDS)]
    for exponent in EXPONENTS:
        sizes = weights(TEAMS, exponent)
        shares = {count: median(hottest_share(found, sizes, count) for found in placed) for count in POWERS}
        name = "teams all alike" if not exponent else f"teams of Zipf({exponent:g}) size"
        series[name] = [
            {"count": count, "share": share, "most": most_rate(costs, share)} for count, share in shares.items()
        ]
        rows += [(f"{name}: share of the busiest of {count}", 100 * shares[count], "%") for count in SHOWN]
        rows.append((f"    the most with {SHOWN[-1]} partitions", most_rate(costs, shares[SHOWN[-1]]), "events/s"))
        needed = needs(costs, RATE, shares.__getitem__)
        if needed is None:
            rows.append((f"    {RATE:,}/s: not in order, for one team alone has", 100 * max(sizes), "%"))
            continue
        whole = cores(needed)
        rows += [
            (f"    for {RATE:,}/s: partitions", needed.partitions, ""),
            ("    worker cores", whole[0], ""),
            ("    Redis shards (a core each)", whole[1], ""),
            ("    events of a batch, mean", round(needed.batch), ""),
        ]
    series["costs"] = [{"worker": costs.worker, "server": costs.server, "writer": costs.writer, "batch": costs.batch}]
    return Section(f"What {RATE:,} events a second take", rows, _said(), series)


def measured(workload: Workload) -> Costs:
    """Whole workers for what an event costs; the sequencer by itself for what its one writer takes."""
    runs = [measure(Handoff("capacity", "", "tests.bench.noop", "noop", traces=False), workload) for _ in range(ROUNDS)]
    assert all(run.finished for run in runs), "the worker did not finish"
    writer = median(_writer(workload).each for _ in range(ROUNDS))
    with inside() as system:
        system.know(TEAMS)
        points = []
        deliveries = (
            one for one in Stream(workload.seed, 10**9, TEAMS) if partition_of(one.team, DEFAULT_PARTITIONS) == 0
        )
        for size in SMALL * TIMES:
            system.load(islice(deliveries, size))
            points.append((float(size), system.sequence_one(0)))
    batch, _ = fit([(size, median(us for one, us in points if one == size)) for size in SMALL])
    worker, server = median(run.worker_cpu for run in runs), median(run.server_cpu for run in runs)
    return Costs(worker, server, writer, batch)


def _writer(workload: Workload) -> Cost:
    """Of sequencing, in full batches."""
    with inside() as system:
        system.know(TEAMS)
        stream = Stream(workload.seed, min(workload.events, 20_000), 1000)
        system.load(stream)
        cost = system.sequence()
        system.run()
        system.check(stream.counts)
    return cost


def _ids(seed: int) -> list[str]:
    rng = random.Random(seed)
    return [team_of(FIRST + rng.getrandbits(80)) for _ in range(TEAMS)]


def _said() -> str:
    return (
        f"assumed: {TEAMS:,} teams, spread whole by crc32 mod P (median of {ROUNDS} sets of ids); one handler, which "
        f"costs nothing; no ingress; a shard is a server with one core; nothing busier than {UTILISATION:.0%}; a "
        f"partition's deliveries wait {WAIT * 1000:g} ms for a process; an event costs the same with many processes "
        "and servers as with few"
    )
