"""Measures the whole matrix and prints it; exit code 1 if a cell broke the promise. ``--help`` says how to run less."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from tests import servers
from tests.matrix.cell import POOLS, PROMISE, Result, run
from tests.matrix.faults import FAULTS


def main() -> int:
    options = _options()
    cells = [
        (fault, pool, kind)
        for _ in range(options.rounds)
        for fault in options.fault or FAULTS
        for kind in options.kind or servers.KINDS
        for pool in options.pool or POOLS
    ]
    print(f"{len(cells)} cells, {options.jobs} at a time; seconds until the first new job is done", flush=True)
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, result in enumerate(pool.map(lambda cell: run(*cell), cells), start=1):
            print(f"{number:4} {result.fault}, {result.pool}, {result.kind}: {result} {result.wrong}", flush=True)
            results.append(result)
    print()
    _table(results, options.pool or POOLS)
    broken = [result for result in results if not result.kept()]
    exits = sum(len(result.exits) for result in results)
    silent = sum(result.seconds is None for result in results)
    print(
        f"\n{len(results) - len(broken)} of {len(results)} kept the promise (work again, or the worker gone, within "
        f"{PROMISE:g} s; nothing lost, doubled or out of order); {exits} exits, {silent} silent"
    )
    return 1 if broken else 0


def _table(results: list[Result], pools: tuple[str, ...]) -> None:
    cells: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for result in results:
        cells[result.fault, result.kind, result.pool].append(str(result))
    print("| fault | server |", " | ".join(pools), "|")
    print("|---|---|" + "---|" * len(pools))
    for fault, kind in dict.fromkeys((result.fault, result.kind) for result in results):
        print(f"| {fault} | {kind} |", " | ".join(", ".join(cells[fault, kind, pool]) for pool in pools), "|")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each cell is run")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--fault", action="append", choices=list(FAULTS))
    parser.add_argument("--pool", action="append", choices=POOLS)
    parser.add_argument("--kind", action="append", choices=servers.KINDS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
