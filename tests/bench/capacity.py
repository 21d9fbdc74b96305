"""How many partitions, worker cores and Redis shards a rate takes: a model with few terms, each of them measured.

A partition has one writer at a time, its sequencer. An event takes ``writer`` us of work, on its own side and the
server's in turn; each batch takes ``batch`` us more, whatever is in it. Where all worker processes are busy a partition
waits for one, and its next batch has what came meanwhile: ``wait`` seconds of its rate, between 1 and the sequencer's
bound. So more partitions mean smaller batches, and those cost more.

What events cost, workers and servers, is divided by the number of them; what limits a partition is its own share of
the events, which its one writer has to keep up with. Teams are spread by ``crc32(team) mod P``, whole: no partition has
less than its largest team, and P of them do not have 1/P each. That share is simulated, for it depends on how large the
teams are. ``utilisation`` is how much of its time anything may be busy.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from worker.runtime.sequencer import MOST_BATCH

UTILISATION: Final = 0.7
WAIT: Final = 0.05  # seconds
POWERS: Final = tuple(2**power for power in range(15))


@dataclass(frozen=True)
class Costs:
    """us of CPU: ``worker`` and ``server`` for an event from the inbox to its handler, in full batches; ``writer`` of
    the partition's sequencer for an event, ``batch`` for a batch, workers' and server's together."""

    worker: float
    server: float
    writer: float
    batch: float

    def batch_size(self, rate: float, wait: float = WAIT) -> float:
        """Events a batch has in a partition that gets ``rate`` a second."""
        return min(float(MOST_BATCH), max(1.0, rate * wait))

    def most(self, utilisation: float = UTILISATION) -> float:
        """Events a second that one partition's writer takes."""
        return utilisation * 1e6 / self.writer


@dataclass(frozen=True)
class Needs:
    """For ``rate`` events a second. ``hottest`` is the share of the busiest partition, ``batch`` the mean size of one;
    ``cores`` and ``shards`` are not rounded up, so that one sees how near they are to less."""

    rate: float
    partitions: int
    hottest: float
    batch: float
    cores: float
    shards: float


def needs(costs: Costs, rate: float, hottest: Callable[[int], float], utilisation: float = UTILISATION) -> Needs | None:
    """The fewest partitions, a power of two, that carry ``rate``; ``hottest`` says which share the busiest of so many
    has. None where no number does: one team alone is more than a writer takes."""
    for partitions in POWERS:
        share = hottest(partitions)
        if rate * share <= costs.most(utilisation):
            size = costs.batch_size(rate / partitions)
            # How the cost of a batch falls on the two sides is as that of its events.
            more = (costs.batch / size - costs.batch / MOST_BATCH) / (costs.worker + costs.server)
            cores, shards = (rate * each * (1 + more) / 1e6 / utilisation for each in (costs.worker, costs.server))
            return Needs(rate, partitions, share, size, cores, shards)
    return None


def most_rate(costs: Costs, share: float, utilisation: float = UTILISATION) -> float:
    """Events a second that all partitions take together, where the busiest has ``share`` of them."""
    return costs.most(utilisation) / share if share else inf


def places(teams: Iterable[str]) -> list[int]:
    """Where each team stands before it is divided by the number of partitions (see worker.store.keys.partition_of)."""
    return [zlib.crc32(team.encode()) for team in teams]


def hottest_share(placed: Sequence[int], sizes: Sequence[float], partitions: int) -> float:
    """The share of all events that the busiest of so many partitions has; ``sizes`` are the teams' shares."""
    loads = [0.0] * partitions
    for place, size in zip(placed, sizes, strict=True):
        loads[place % partitions] += size
    return max(loads) / sum(sizes)


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The line through (events, us) by least squares: us whatever is done, and us an event."""
    count = len(points)
    x, y = sum(point[0] for point in points) / count, sum(point[1] for point in points) / count
    slope = sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
    return max(0.0, y - slope * x), slope


def cores(needed: Needs) -> tuple[int, int]:
    """Whole worker cores and whole shards."""
    return ceil(needed.cores), ceil(needed.shards)
