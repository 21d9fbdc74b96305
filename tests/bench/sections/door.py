"""The front door as a process, and signed requests for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from ingress.signature import HEADER, sign
from tests import processes, servers
from tests.bench.load import post, write_requests
from tests.processes import Process, until

ROOT: Final = Path(__file__).parents[3]
SECRET: Final = "ibt_wh_bench_secret"
PATH: Final = "/webhooks/inbox"


@dataclass(frozen=True)
class Door:
    """A front door that is open at ``address`` (host:port)."""

    process: Process
    address: str


@contextmanager
def open_door(redis_url: str, *, module: str = "ingress", **settings: str) -> Iterator[Door]:
    """``settings`` are named without ``HANDOFF_``; ``module`` is what is run."""
    address = f"127.0.0.1:{servers.free_port()}"
    environment = {"HANDOFF_REDIS_URL": redis_url, "HANDOFF_BIND": address, "HANDOFF_WEBHOOK_SECRET": SECRET}
    environment |= {f"HANDOFF_{name}": value for name, value in settings.items()}
    with processes.running(processes.python(module), {**environment, "PYTHONPATH": str(ROOT)}, ROOT) as process:
        until(lambda: _ready(address), "the front door is open", deadline=60)
        yield Door(process, address)


def signed(body: bytes) -> bytes:
    """A whole request, signed now."""
    return post(PATH, body, {HEADER: sign(body, SECRET.encode(), int(time.time()))})


def write_signed(file: Path, bodies: Iterable[bytes]) -> None:
    write_requests(file, (signed(body) for body in bodies))


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/readyz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
