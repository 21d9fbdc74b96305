"""What is left after a power cut: with ``HANDOFF_DURABILITY=fsync`` all that was answered 202, and not so without.

``CUTS=100 SEED=7 pytest tests/integration/test_power.py`` cuts more often. The second test shows that the first could
fail. Where there is no strace, the server is killed only.
"""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests import power
from tests.ingress_kit import FrailServer, Ingress, event, inboxes, ingress
from tests.power import MainsServer, synced
from tests.processes import until

pytestmark = pytest.mark.server

SENDERS = 8
CUTS = int(os.environ.get("CUTS") or 2)


@pytest.fixture
def chance() -> random.Random:
    """Printed, and given again with ``SEED=``."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"SEED={seed}")
    return random.Random(seed)


class Sending:
    """Events sent by several at once for as long as it is open; ``accepted`` are the ids of those answered 202."""

    def __init__(self, door: Ingress, first: int) -> None:
        self.accepted: set[str] = set()
        self._door = door
        self._numbers = iter(range(first, 1 << 31))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(SENDERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with httpx.Client(base_url=self._door.http.base_url, timeout=10) as http:
            door = Ingress(self._door.process, http)
            while not self._ended.is_set():
                number = next(self._numbers)
                if door.post(event(f"team{number % 50}", number)).status_code == 202:
                    self.accepted.add(f"evt{number}")


def stored(server: FrailServer) -> set[str]:
    with server.client() as client:
        return {json.loads(fields[b"b"])["id"] for fields in inboxes(client, "t")}


def lost_in_cuts(server: FrailServer, chance: random.Random, durability: str, cuts: int = CUTS) -> set[str]:
    """The ids of what was answered 202 and is not there after several cuts, each at a moment by chance."""
    everybody = server.url.replace("redis://", "redis://default:any@")
    accepted: set[str] = set()
    with ingress(everybody, "t", DURABILITY=durability) as door:
        for number in range(cuts):
            until(door.ready, "ready")
            wanted = chance.randrange(20, 100)
            with Sending(door, 1_000_000 * (number + 1)) as sending:
                until(lambda: len(sending.accepted) >= wanted, "enough is accepted", pause=0.001)  # noqa: B023
                if isinstance(server, MainsServer):
                    server.cut_power()
                else:
                    server.kill()
            accepted |= sending.accepted
            server.start()
        return accepted - stored(server)


def options(appendfsync: str) -> tuple[str, ...]:
    return ("--appendonly", "yes", "--appendfsync", appendfsync)


@pytest.fixture
def kind() -> type[FrailServer]:
    return MainsServer if power.available() else FrailServer


def test_what_was_accepted_with_fsync_is_there_after_a_power_cut(
    kind: type[FrailServer], tmp_path: Path, chance: random.Random
) -> None:
    server = kind(tmp_path, options=options("always"))
    server.start()
    try:
        assert lost_in_cuts(server, chance, "fsync") == set()
    finally:
        server.kill()


@pytest.mark.skipif(not power.available(), reason="there is no strace here, or it may not trace")
def test_a_server_that_syncs_each_second_loses_some_of_it(tmp_path: Path, chance: random.Random) -> None:
    """Which is what ``HANDOFF_DURABILITY=server`` leaves to it."""
    server = MainsServer(tmp_path, options=options("everysec"))
    server.start()
    try:
        assert lost_in_cuts(server, chance, "server", cuts=1) != set()
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (['7 write(9</a>, ""..., 10) = 10'], 0),
        (['7 write(9</a>, ""..., 10) = 10', "7 fdatasync(9</a>) = 0"], 10),
        (['7 write(9</a>, ""..., 10) = 10', "7 fdatasync(9</a>) = -1 EIO (Input/output error)"], 0),
        (['7 write(9</a>, ""..., 10) = 10', "8 fdatasync(9</a> <unfinished ...>"], 0),
        (
            [
                '7 write(9</a>, ""..., 10) = 10',
                "8 fdatasync(9</a> <unfinished ...>",
                '7 write(9</a>, ""..., 5) = 5',
                "8 <... fdatasync resumed>)         = 0",
            ],
            10,
        ),
        (['7 write(9</a>, ""..., 10 <unfinished ...>', "7 <... write resumed>) = 10", "7 fsync(9</a>) = 0"], 10),
        (['7 write(9</b>, ""..., 10) = 10', "7 fsync(9</b>) = 0"], 0),
    ],
)  # fmt: skip
def test_what_the_disk_has_is_what_was_written_before_the_last_sync_began(lines: list[str], kept: int) -> None:
    assert synced("\n".join(lines), Path("/a")) == kept
