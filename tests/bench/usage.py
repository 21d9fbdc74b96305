"""What processes cost, as Linux counts it in ``/proc`` (man page proc(5)); elsewhere the bench says so and stops."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far (user and system, to 10 ms), and the most memory ever resident, bytes."""

    cpu: float
    rss: int


def usage_of(pids: Iterable[int]) -> Usage:
    """Of these processes and everything below them, together. One that has ended counts nothing."""
    cpu, rss = 0.0, 0
    for pid in with_children(pids):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICK
        rss += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    return Usage(cpu, rss)


@dataclass(frozen=True)
class Resident:
    """Bytes of one process in memory: all of it, its share of what several have, what it has alone; the most of all."""

    rss: int
    pss: int
    uss: int
    peak: int


def resident(pid: int) -> Resident:
    """Raises ``OSError`` where the process has ended, or Linux does not say (before 4.14)."""
    lines = f"{Path(f'/proc/{pid}/smaps_rollup').read_text()}{Path(f'/proc/{pid}/status').read_text()}".splitlines()
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
    return Resident(
        sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"], max(sizes["VmHWM"], sizes["Rss"])
    )


def with_children(pids: Iterable[int]) -> Iterable[int]:
    for pid in pids:
        yield pid
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                children = [int(child) for child in task.read_text().split()]
            except OSError:
                continue
            yield from with_children(children)
