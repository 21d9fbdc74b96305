"""``make fuzz MINUTES=10 SEED=1``: all fuzzers, with a new seed each round, until the time is over or one fails.

A round is a run of pytest with five times the examples and more of what the door is knocked at with,
so it ends a little after its time. At the end: how many examples each test had. ``ARGS="-k envelope"`` for some.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter

EXAMPLES = "1000"
REQUESTS = "200000"
_TEST = re.compile(r"^(tests/fuzz/\S+?)(?:\[.*\])?:$")
_PASSED = re.compile(r"(\d+) passing examples")


def counted(output: str) -> Counter[str]:
    """Examples by test, of Hypothesis' statistics."""
    found: Counter[str] = Counter()
    test = ""
    for line in output.splitlines():
        if named := _TEST.match(line):
            test = named[1]
        elif passed := _PASSED.search(line):
            found[test] += int(passed[1])
    return found


def main() -> int:
    minutes, seed = float(os.environ.get("MINUTES") or 10), int(os.environ.get("SEED") or secrets.randbelow(10**6))
    end = time.monotonic() + 60 * minutes
    total: Counter[str] = Counter()
    rounds = 0
    environment = {"FUZZ_EXAMPLES": EXAMPLES, "FUZZ_REQUESTS": REQUESTS} | os.environ
    while not rounds or time.monotonic() < end:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-o", "timeout=0", "tests/fuzz"]
        command += [f"--hypothesis-seed={seed + rounds}", "--hypothesis-show-statistics", *sys.argv[1:]]
        print(f"round {rounds + 1}, SEED={seed + rounds}", flush=True)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        total += counted(done.stdout)
        if done.returncode:
            print(done.stdout[-20_000:], done.stderr[-2000:], f"failed: make fuzz SEED={seed + rounds}", sep="\n")
            return 1
        rounds += 1
    for test, count in sorted(total.items()):
        print(f"{count:>9,}  {test}")
    print(f"{sum(total.values()):>9,}  examples in {rounds} rounds, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
