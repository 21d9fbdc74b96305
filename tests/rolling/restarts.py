"""Restarts under load, and what became of every event: accepted, called, in order, once.

make rolling ARGS="--rounds 5 --signal TERM --rate 300 --seed 7"
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import redis

from tests import processes
from tests.processes import until
from tests.rolling.fleet import Fleet, fleet
from worker.settings import Settings
from worker.store import ledger
from worker.store.client import connect
from worker.store.keys import PartitionKeys
from worker.store.scripts import Scripts

HANDLERS = ("plain", "coroutine")
SENDERS = 4
TEAMS = 40


class Call(NamedTuple):
    what: str
    seq: int
    event: str
    attempt: int
    at: float


@dataclass
class Found:
    """What was seen. Empty lists of faults are what a restart by SIGTERM promises."""

    events: int = 0
    restarts: int = 0
    errors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)  # handler and event whose call ended more than once
    begun_again: list[str] = field(default_factory=list)
    charged: list[str] = field(default_factory=list)  # called with an attempt above 1
    disorder: list[str] = field(default_factory=list)
    audit: str = ""
    gap: float = 0.0  # the longest time without an end of a call, seconds
    stops: list[tuple[str, float, int]] = field(default_factory=list)

    def __str__(self) -> str:
        slowest = {role: 0.0 for role, _, _ in self.stops}
        for role, seconds, _ in self.stops:
            slowest[role] = max(slowest[role], seconds)
        stops = ", ".join(f"{role} {seconds:.2f} s" for role, seconds in sorted(slowest.items()))
        lines = [
            f"{self.events} events accepted, {self.restarts} restarts, exit codes {sorted({s[2] for s in self.stops})}"
        ]
        lines.append(f"longest time without an end of a call {self.gap:.2f} s; longest time to stop: {stops}")
        for name in ("errors", "missing", "disorder", "doubled", "begun_again", "charged"):
            found = getattr(self, name)
            lines.append(f"{name.replace('_', ' ')}: {len(found)} {found[:3] if found else ''}".rstrip())
        return "\n".join([*lines, f"audit: {self.audit or 'balanced'}"])


def roll(folder: Path, *, rounds: int, number: int, rate: float, seed: int) -> Found:
    """Restart every process ``rounds`` times with signal ``number`` while ``rate`` events a second come."""
    with fleet(folder) as found:
        teams = [f"team{place}" for place in range(TEAMS)]
        found.sent.update({team: [] for team in teams})
        threads = [threading.Thread(target=found.watch)]
        threads += [
            threading.Thread(target=found.send, args=(teams[place::SENDERS], SENDERS / rate, seed + place))
            for place in range(SENDERS)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(rounds):
                for role, group in (("worker", found.workers), ("ingress", found.ingresses)):
                    for place in range(len(group)):
                        before = sum(map(len, found.sent.values()))
                        until(lambda b=before: sum(map(len, found.sent.values())) > b + rate / 4, "events flow")  # type: ignore[misc]
                        found.restart(role, place, number)
        finally:
            found.over.set()
            for thread in threads[1:]:
                thread.join()
            found.unwatched.set()
            threads[0].join()
        _wait_until_done(found)
        return _judged(found)


def _wait_until_done(found: Fleet) -> None:
    settings = Settings(redis_url=found.redis_url)
    with connect(settings) as client:
        scripts = Scripts(client)

        def done() -> bool:
            books = [ledger.take(scripts, PartitionKeys(settings.prefix, p), HANDLERS) for p in range(8)]
            return not any(b.unread + b.held + sum(h.waiting for h in b.handlers.values()) for b in books)

        until(done, "the work ends", 120, pause=0.1)


def _judged(found: Fleet) -> Found:
    seen = Found(sum(map(len, found.sent.values())), len(found.stops), found.errors, stops=found.stops)
    ends: list[float] = []
    with redis.Redis.from_url(found.redis_url, decode_responses=True) as client:
        for handler in HANDLERS:
            for team, sent in found.sent.items():
                lines = [str(line).split(" ") for line in client.lrange(f"calls:{handler}:{team}", 0, -1)]
                calls = [Call(what, int(seq), event, int(tried), float(at)) for what, seq, event, tried, at in lines]
                ends += [call.at for call in calls if call.what == "end"]
                _judge_lane(seen, handler, sent, calls)
    ends.sort()
    seen.gap = max((after - before for before, after in pairwise(ends)), default=0.0)
    audit = subprocess.run(
        processes.python("worker.ops.cli", "audit"),
        env=found.environment,
        cwd=found.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    seen.audit = "" if audit.returncode == 0 else audit.stdout + audit.stderr
    return seen


def _judge_lane(seen: Found, handler: str, sent: Sequence[str], calls: Sequence[Call]) -> None:
    begun = [call.event for call in calls if call.what == "begin"]
    ended = [call.event for call in calls if call.what == "end"]
    seen.missing += [f"{handler} {event}" for event in sent if event not in set(ended)]
    seen.doubled += [f"{handler} {event}" for event in set(ended) if ended.count(event) > 1]
    seen.begun_again += [f"{handler} {event}" for event in set(begun) if begun.count(event) > 1]
    seen.charged += [f"{handler} {call.event}" for call in calls if call.attempt > 1]
    # The first call of each event comes after that of the one before, and after its first end.
    first = list(dict.fromkeys((call.what, call.seq) for call in calls))
    wanted = [(what, seq) for seq in range(1, len(sent) + 1) for what in ("begin", "end")]
    if first != wanted:
        at = next((n for n, (one, other) in enumerate(zip(first, wanted, strict=False)) if one != other), -1)
        seen.disorder.append(f"{handler} {calls[0].event.partition('-')[0] if calls else ''} at {first[at : at + 3]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make rolling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--signal", default="TERM", choices=["TERM", "QUIT", "KILL"])
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=20261126)
    given = parser.parse_args()
    print(f"seed {given.seed}, SIG{given.signal}, {given.rounds} rounds, {given.rate:g} events/s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        number = signal.Signals[f"SIG{given.signal}"]
        found = roll(Path(folder), rounds=given.rounds, number=number, rate=given.rate, seed=given.seed)
    print(found)
    wrong = [found.missing, found.disorder, found.audit]
    if given.signal == "TERM":
        wrong += [found.errors, found.doubled, found.begun_again, found.charged]
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main())
