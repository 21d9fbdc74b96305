"""What it costs that 202 waits for the disk: the same deliveries, one setting after the other, round after round, each
round in the other direction. The ratios are of one round: a disk is not as quick at one time as at another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.load import CONNECTIONS, Load, run_load
from tests.bench.sections import Section
from tests.bench.sections.door import open_door, write_signed
from tests.bench.workload import Workload
from tests.ingress_kit import frail_server

ROUNDS: Final = 5
CROWD: Final = 512  # connections: as much as one batch takes
SETTINGS: Final = (("everysec", "server"), ("always", "server"), ("always", "fsync"))
"""``appendfsync`` and ``HANDOFF_DURABILITY``; the first is deploy/valkey.conf's."""


def durability(workload: Workload) -> Section:
    loads: dict[tuple[str, str, int], list[Load]] = {}
    with tempfile.TemporaryDirectory(prefix="handoff-bench-") as folder:
        for number in range(ROUNDS):
            for sync, waits in SETTINGS if number % 2 == 0 else reversed(SETTINGS):
                place = Path(folder) / f"{number}-{sync}-{waits}"
                place.mkdir()
                for connections, load in _measure(place, sync, waits, workload):
                    loads.setdefault((sync, waits, connections), []).append(load)
    rows: list[tuple[str, float, str]] = []
    for connections in (CONNECTIONS, CROWD):
        usual = loads[*SETTINGS[0], connections]
        for sync, waits in SETTINGS:
            found = loads[sync, waits, connections]
            name = f"{connections} connections, appendfsync {sync}, durability {waits}"
            ratios = [load.rate / first.rate for load, first in zip(found, usual, strict=True)]
            rows += [
                (f"{name}: accepted", median(load.rate for load in found), "/s"),
                ("    of the first", median(ratios), "x"),
                ("    least", min(ratios), "x"),
                ("    most", max(ratios), "x"),
                ("    p50", median(load.p50 for load in found) * 1000, "ms"),
                ("    p99", median(load.p99 for load in found) * 1000, "ms"),
                ("    not accepted", float(sum(_refused(load) for load in found)), ""),
            ]
    where = "the folder for temporary files (TMPDIR): its disk is what is measured"
    return Section("Until the disk has it", rows, f"medians of {ROUNDS} rounds in turn; the file is in {where}")


def _measure(folder: Path, sync: str, waits: str, workload: Workload) -> list[tuple[int, Load]]:
    options = ("--appendonly", "yes", "--appendfsync", sync)
    with frail_server(folder, *options) as server, open_door(server.url, DURABILITY=waits) as door:
        file = folder / "signed"
        write_signed(file, (delivery.body for delivery in workload.deliveries))
        run_load(door.address, file)  # to warm it
        return [(connections, run_load(door.address, file, connections)) for connections in (CONNECTIONS, CROWD)]


def _refused(load: Load) -> int:
    return sum(count for status, count in load.statuses.items() if status != "202")
